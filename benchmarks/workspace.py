"""Create a folder in which the stages run on TESS or a repeated part of it.

Settings are those of params.yaml with a benchmark's changes. MLflow uses a database of its own.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from ruamel.yaml import YAML

import measuring
from speech_emotion.config.base import parse_section, read_params
from speech_emotion.data import manifest as manifests

CORPUS: Final = "bench"
REFERENCE: Final = read_params(measuring.ROOT / "presets" / "reference.yaml")["featurize"]
"""The notebook's features: librosa's defaults."""


@dataclass(frozen=True)
class Workspace:
    """A folder with params.yaml, recordings and their manifest."""

    folder: Path

    @property
    def raw(self) -> Path:
        """The recordings."""
        return self.folder / "raw"

    @property
    def manifest(self) -> Path:
        """The file that lists them."""
        return self.folder / "manifest" / manifests.MANIFEST

    def settings(self, section: str, model: type) -> Any:
        """Return a section of its params.yaml."""
        return parse_section(section, model, read_params(self.folder / "params.yaml")[section])

    def set(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Write params.yaml: the repository's, with other values for some keys of some sections."""
        values = read_params(measuring.ROOT / "params.yaml")
        for section, ours in ({"corpus": {"name": CORPUS, "kind": "folder", "source": "raw"}} | dict(changes)).items():
            values[section] = values[section] | ours
        with open(self.folder / "params.yaml", "w", encoding="utf-8") as file:
            YAML(typ="safe").dump(values, file)

    def stage(self, name: str, *arguments: str, watched: bool = False) -> measuring.Run:
        """Run a stage's script here; see `measuring.run`."""
        script = str(measuring.ROOT / "pipeline" / f"{name}.py")
        tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}"}
        return measuring.run("python", script, *arguments, folder=self.folder, environment=tracking, watched=watched)

    def featurize(self, target: str = "features", *, watched: bool = False) -> measuring.Run:
        """Run featurize; it writes a feature store and functionals.csv beside it."""
        preset = str(measuring.ROOT / "presets" / "reference.yaml")
        arguments = ("raw", str(self.manifest), preset, target, f"{target}.csv")
        return self.stage("featurize", *arguments, watched=watched)


@dataclass(frozen=True)
class Corpus:
    """TESS as the pipeline brings it here: its canonical tree, and its manifest.

    Attributes
    ----------
    raw : Path
    rows : pd.DataFrame
        The manifest's.
    """

    raw: Path
    rows: pd.DataFrame

    @property
    def paths(self) -> list[Path]:
        """Every recording."""
        return [self.raw / path for path in self.rows["path"]]

    def cut(self, recordings: int) -> "Corpus":
        """Return about so many recordings: of each speaker and emotion as many, three at least."""
        groups = self.rows.groupby(["speaker", "emotion"], sort=True)
        return Corpus(self.raw, groups.head(max(3, recordings // groups.ngroups)))


def tess() -> Corpus:
    """Return TESS, held against its checksums and listened to where that was not done before.

    Raises
    ------
    UserError
        TESS_DIR does not name it.
    """
    source = measuring.recordings()
    made = Workspace(measuring.SCRATCH / f"tess-{hashlib.sha256(os.fsencode(source)).hexdigest()[:12]}")
    if not made.manifest.is_file():
        made.folder.mkdir(parents=True, exist_ok=True)
        made.set({"corpus": {"name": "tess", "kind": "tess", "source": str(source)}})
        made.stage("download", "raw")
        made.stage("prepare", "raw", "manifest")
    return Corpus(made.raw, manifests.read(made.manifest))


def growing(description: str | None, recordings: int, times: Sequence[int]) -> tuple[Corpus, Sequence[int], bool]:
    """Read the command line of a benchmark that repeats a corpus.

    Parameters
    ----------
    description : str or None
    recordings : int
        Of the part of TESS that is taken, unless `--whole` is given.
    times : sequence of int
        How often it is to be repeated.

    Returns
    -------
    corpus : Corpus
    times : sequence of int
        The first alone, in the tiny form.
    tiny : bool
    """
    parser = measuring.options(description)
    parser.add_argument("--whole", action="store_true", help="all of TESS instead of a part of it")
    given = parser.parse_args()
    corpus = tess()
    if not given.whole:
        corpus = corpus.cut(42 if given.tiny else recordings)
    return corpus, times[:1] if given.tiny else times, given.tiny


@contextmanager
def made_of(corpus: Corpus, repeats: int = 1) -> Iterator[Workspace]:
    """Give a workspace, for as long as it is needed, in which every recording is there so often, as links.

    Each repetition is of other words: so a split may put it on another side.
    """
    measuring.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=measuring.SCRATCH, prefix="workspace-") as folder:
        made = Workspace(Path(folder))
        made.set({})
        frame = pd.concat([_repeated(corpus, number, made.raw) for number in range(repeats)], ignore_index=True)
        bad = pd.DataFrame(columns=list(manifests.BAD_COLUMNS))
        manifests.write(made.manifest.parent, manifests.Manifest(frame, bad))
        yield made


def _repeated(corpus: Corpus, number: int, raw: Path) -> pd.DataFrame:
    """Link every recording under another name and return its rows."""
    rows = corpus.rows.copy()
    for name in ("id", "text"):
        rows[name] = [f"{value}-{number}" for value in rows[name]]
    rows["path"] = [f"{number}/{path}" for path in rows["path"]]
    rows["sha256"] = [hashlib.sha256(f"{value}-{number}".encode()).hexdigest() for value in rows["sha256"]]
    for folder in {Path(path).parent for path in rows["path"]}:
        (raw / folder).mkdir(parents=True)
    for source, path in zip(corpus.paths, rows["path"], strict=True):
        (raw / path).symlink_to(source)
    return rows
