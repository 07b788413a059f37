"""List the corpora, their licences, and which are on this machine."""

from pathlib import Path
from typing import get_args

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusName, CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import walk_files
from speech_emotion.data.corpora import facts
from speech_emotion.data.corpora.base import CorpusFacts
from speech_emotion.data.corpora.published import find_copy
from speech_emotion.data.labels import TABLE


def corpus_states(root: Path) -> list[tuple[str, str, str, str]]:
    """Return kind, title, licence and state of every kind of corpus: where its recordings are, or come from."""
    chosen = read_section("corpus", CorpusSettings, root / "params.yaml")
    known: list[tuple[CorpusName, CorpusFacts]] = [(kind, facts(kind)) for kind in get_args(CorpusName)]
    return [(kind, one.title, one.licence, _state(root, kind, chosen) or one.not_here) for kind, one in known]


def _state(root: Path, kind: CorpusName, chosen: CorpusSettings) -> str:
    """Return where the recordings of a kind are; "" if they are not here."""
    name = chosen.name if chosen.kind == kind else kind
    # `make demo` works in a clone
    places = [root / "data" / name / "raw", root / ".demo" / "data" / name / "raw"]
    if kind == "folder":
        # the user chose the folder's name; find it by its table
        places += sorted(table.parent for table in (root / "data").glob(f"*/raw/{TABLE}"))
    found = {raw.relative_to(root).as_posix(): len(walk_files(raw)) for raw in places if raw.is_dir()}
    here = [f"{raw} ({count:,} file{'s' if count > 1 else ''})" for raw, count in found.items() if count]
    return f"here: {', '.join(here)}" if here else _waiting(root, kind, chosen)


def _waiting(root: Path, kind: CorpusName, chosen: CorpusSettings) -> str:
    """Return where a copy waits that `dvc repro` will read; "" if there is none."""
    if chosen.kind != kind or kind == "demo":
        return ""
    if chosen.source.startswith("~"):
        return f"corpus.source is {chosen.source}: DVC does not expand ~, write the whole path"
    if kind == "folder":
        exists = (root / chosen.source).exists()
        return f"`dvc repro` reads {chosen.source}" if exists else f"there is no {chosen.source}"
    try:
        copy = find_copy(kind, chosen, root)
    except UserError as error:
        return str(error)
    return f"`dvc repro` reads {copy}" if copy else ""
