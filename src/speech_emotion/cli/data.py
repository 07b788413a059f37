"""`speech-emotion data`: list corpora, their licences and what is on this machine."""

from pathlib import Path

from speech_emotion.cli import tables


def data() -> None:
    """List the corpora, their licences, and which of them are on this machine.

    `corpus.kind` in params.yaml chooses one by the name in the first column.

    Examples
    --------
    * `speech-emotion data`
    * `TESS_DIR=~/TESS dvc repro`
    """
    from speech_emotion.data.inventory import survey

    rows = [(one.kind, one.title, one.licence, one.state) for one in survey(Path())]
    tables.write(("kind", "corpus", "licence", "state"), rows)
