"""The command `enroll`: write the profile of a speaker."""

from pathlib import Path
from typing import Annotated

import typer

from speech_emotion.cli.options import ModelOption
from speech_emotion.core.errors import UserError


def enroll(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER", help="Recordings of one speaker, about ten seconds in all; neutral speech is best."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The profile, in JSON.")],
    model: ModelOption = None,
) -> None:
    """Write the profile of a speaker, for `predict --profile`, the server and Python.

    A profile says how the speaker's voice differs from the average voice of the training data. It holds the mean of
    each feature, no audio, and fits only models with the same features.

    Examples
    --------
    * `speech-emotion enroll anna/normal_voice.wav --output anna.json`
    * `speech-emotion predict anna/ --profile anna.json`
    """
    from speech_emotion.cli.recordings import search
    from speech_emotion.registry.model_resolution import load

    found, bad = search(recordings)
    if bad:
        raise UserError(f"{bad[0].path}: {bad[0].reason}.")
    recognizer = load(model)
    profile = recognizer.enroll(found)
    profile.save(output)
    features = recognizer.package.description.features
    seconds = profile.frames * features.hop_length / features.sample_rate
    typer.echo(f"{output}: {seconds:.1f} s of speech from {len(found)} recordings")
