"""Time from a recording to its prediction, compared with the reference notebook.

    TESS_DIR=/path/to/tess python benchmarks/answering.py

* One clip from memory, warm, one core: `Recognizer.predict` against librosa and `model.predict`.
* One clip, cold: `speech-emotion predict` in a new process, and the notebook in one.
* All of TESS, all cores: `speech-emotion predict FOLDER --output` against the notebook's loop, of which a part is run
  and the rest extrapolated.
"""

import io
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

import measuring
import peers
import workspace
from measuring import Figure, Spread, Times

CLIPS: Final = 40
"""Of the loops; the notebook's takes a tenth of a second each."""


def main() -> None:
    """Measure, and write results/answering.json."""
    given = measuring.options(__doc__).parse_args()
    corpus = workspace.tess()
    if given.tiny:
        corpus = corpus.cut(42)
    clips = measuring.some(corpus.paths, 4 if given.tiny else CLIPS)
    with measuring.one_core():
        times, waited = _a_clip(clips, repeats=1 if given.tiny else 5)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "reference.keras"
        peers.reference_network().save(model)
        cold = _cold(model, clips[0], repeats=1 if given.tiny else 2)
    with workspace.made_of(corpus) as made:
        batch = _batch(made.raw, repeats=1 if given.tiny else 2)
    loop = times["notebook"].scaled(len(corpus.paths))
    measuring.write_figures(
        "answering",
        [
            Figure.ratio("clip", times["ours"], times["notebook"]),
            Figure("clip p50", Spread(*np.percentile(waited, [50, 5, 95])), note="milliseconds; 5 % to 95 %"),
            Figure.ratio("cold", cold["ours"], cold["notebook"]),
            Figure.time("cold seconds", cold["ours"]),
            _many(batch, loop, len(corpus.paths), times["decode"]),
        ],
        tiny=given.tiny,
    )


def _a_clip(clips: Sequence[Path], *, repeats: int) -> tuple[dict[str, Times], list[float]]:
    """Return the times of a clip by each way, and of every single answer of ours, in milliseconds."""
    recorded = [path.read_bytes() for path in clips]
    waited: list[float] = []
    with ExitStack() as stack:
        ways = {
            name: stack.enter_context(measuring.apart(measuring.each, make, recorded))
            for name, make in {"ours": _ours, "notebook": _notebook, "decode": _decoding}.items()
        }
        answer = ways["ours"]
        times = measuring.interleaved({**ways, "ours": lambda: waited.extend(answer())}, repeats)
    # the first round was not warm
    return {name: one.scaled(1 / len(clips)) for name, one in times.items()}, [
        1000 * one for one in waited[len(clips) :]
    ]


def _ours() -> Callable[[bytes], object]:
    import speech_emotion

    return speech_emotion.load().predict


def _notebook() -> Callable[[bytes], object]:
    import librosa

    network = peers.reference_network()

    def answer(recording: bytes) -> object:
        samples, rate = librosa.load(io.BytesIO(recording))
        means = librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=peers.COEFFICIENTS).mean(axis=1)
        return network.predict(means[None, :, None], verbose=0)

    return answer


def _decoding() -> Callable[[bytes], object]:
    import speech_emotion
    from speech_emotion.audio.decode import load

    return partial(load, sample_rate=speech_emotion.load().package.description.features.sample_rate)


def _cold(model: Path, clip: Path, *, repeats: int) -> dict[str, Times]:
    """Time fresh processes; the round before that is not counted leaves their bytecode, as an installation would."""
    script = str(Path(__file__).with_name("peers.py"))
    return measuring.interleaved(
        {
            "ours": lambda: measuring.run("speech-emotion", "predict", str(clip)),
            "notebook": lambda: measuring.run("python", script, "predict", str(model), str(clip)),
        },
        repeats,
    )


def _batch(folder: Path, *, repeats: int) -> Times:
    def all_of_it() -> None:
        with tempfile.TemporaryDirectory() as output:
            measuring.run("speech-emotion", "predict", str(folder), "--output", str(Path(output) / "answers.csv"))

    return measuring.interleaved({"ours": all_of_it}, repeats)["ours"]


def _many(own: Times, loop: Times, recordings: int, decoding: Times) -> Figure:
    cores = measuring.core_count()
    ratio = Spread(loop.median / own.median, min(loop.seconds) / max(own.seconds), max(loop.seconds) / min(own.seconds))
    decoded = decoding.median * recordings / cores
    note = f"{recordings / own.median:.0f} a second; reading and resampling alone {decoded:.1f} s on {cores} cores"
    return Figure("batch", ratio, own.median, loop.median, note)


if __name__ == "__main__":
    measuring.main(main)
