"""List the corpora, their licences, and which are on this machine."""

from pathlib import Path
from typing import Final

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusName, CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import walk_files
from speech_emotion.data.corpora.base import CorpusState
from speech_emotion.data.corpora.tess import find_copy
from speech_emotion.data.labels import TABLE

_KINDS: Final[tuple[tuple[CorpusName, str, str, str], ...]] = (
    (
        "tess",
        "Toronto emotional speech set: 2 actresses, 7 emotions, 2,800 recordings (doi:10.5683/SP2/E8H2MF)",
        "CC BY-NC-ND 4.0",
        "not here: `make tess` downloads it (about 290 MB), unless corpus.source or TESS_DIR names a copy",
    ),
    (
        "demo",
        "synthetic corpus in the format of TESS, made with eSpeak NG on this machine",
        "no restrictions; the synthesiser is GPL-3.0-or-later",
        "not made yet: `make demo` makes it offline",
    ),
    (
        "folder",
        "your own recordings, labelled by sub-folders or a CSV",
        "yours",
        "not set up: see docs/own-corpus.md",
    ),
)


def survey(root: Path) -> list[CorpusState]:
    """Return the state of every kind of corpus."""
    chosen = read_section("corpus", CorpusSettings, root / "params.yaml")
    return [
        CorpusState(kind, title, licence, _state(root, kind, chosen) or absent)
        for kind, title, licence, absent in _KINDS
    ]


def _state(root: Path, kind: CorpusName, chosen: CorpusSettings) -> str:
    """Return where the recordings of a kind are; "" if they are not on this machine."""
    name = chosen.name if chosen.kind == kind else kind
    # the demonstration has a clone of its own
    places = [root / "data" / name / "raw", root / ".demo" / "data" / name / "raw"]
    if kind == "folder":
        # the user names it, and params.yaml may name another one now
        places += sorted(table.parent for table in (root / "data").glob(f"*/raw/{TABLE}"))
    found = {raw.relative_to(root).as_posix(): len(walk_files(raw)) for raw in places if raw.is_dir()}
    here = [f"{raw} ({count:,} file{'s' if count > 1 else ''})" for raw, count in found.items() if count]
    return f"here: {', '.join(here)}" if here else _waiting(root, kind, chosen)


def _waiting(root: Path, kind: CorpusName, chosen: CorpusSettings) -> str:
    """Return which copy `dvc repro` will read; "" if there is none."""
    source = root / chosen.source
    if chosen.kind != kind:
        return ""
    if kind != "demo" and chosen.source.startswith("~"):
        return f"corpus.source is {chosen.source}: DVC does not expand ~, write the whole path"
    if kind == "folder":
        return f"`dvc repro` reads {chosen.source}" if source.exists() else f"there is no {chosen.source}"
    if kind == "tess":
        try:
            copy = find_copy(chosen, root)
        except UserError as error:
            return str(error)
        return f"`dvc repro` reads {copy}" if copy else ""
    return ""
