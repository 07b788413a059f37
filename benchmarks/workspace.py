"""Create a folder in which the stages run on TESS or a repeated part of it.

Settings are those of params.yaml with a benchmark's changes. MLflow uses a database of its own.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from ruamel.yaml import YAML

import measuring
from speech_emotion.config.base import parse_section, read_params
from speech_emotion.core.io import digest_json
from speech_emotion.data import manifest as manifests

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
        """The list of the recordings."""
        return self.folder / "manifest" / manifests.MANIFEST

    def settings(self, section: str, model: type) -> Any:
        """Return a section of its params.yaml."""
        return parse_section(section, model, read_params(self.folder / "params.yaml")[section])

    def set(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Write params.yaml: the repository's, with some values changed."""
        values = read_params(measuring.ROOT / "params.yaml")
        corpus = {"name": "bench", "kind": "folder", "source": "raw"}
        for section, changed in {"corpus": corpus, **changes}.items():
            values[section] = values[section] | changed
        with open(self.folder / "params.yaml", "w", encoding="utf-8") as file:
            YAML(typ="safe").dump(values, file)

    def stage(self, name: str, *arguments: str, watched: bool = False) -> measuring.Run:
        """Run the script of a stage here."""
        script = str(measuring.ROOT / "pipeline" / f"{name}.py")
        tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}"}
        return measuring.run("python", script, *arguments, folder=self.folder, environment=tracking, watched=watched)

    def featurize(self, target: str = "features", *, watched: bool = False) -> measuring.Run:
        """Run featurize, which writes a feature store and functionals.csv."""
        preset = str(measuring.ROOT / "presets" / "reference.yaml")
        arguments = ("raw", str(self.manifest), preset, target, f"{target}.csv")
        return self.stage("featurize", *arguments, watched=watched)


@dataclass(frozen=True)
class Corpus:
    """A folder of recordings and the rows of its manifest."""

    raw: Path
    rows: pd.DataFrame

    @property
    def paths(self) -> list[Path]:
        """All recordings."""
        return [self.raw / path for path in self.rows["path"]]

    def cut(self, recordings: int) -> "Corpus":
        """Return about this many recordings: equally many of each speaker and emotion, three at least."""
        groups = self.rows.groupby(["speaker", "emotion"], sort=True)
        return Corpus(self.raw, groups.head(max(3, recordings // groups.ngroups)))


def tess() -> Corpus:
    """Return TESS, checked and prepared once for all benchmarks."""
    return _prepared({"name": "tess", "kind": "tess", "source": str(measuring.recordings())})


def mix() -> Corpus | None:
    """Return TESS, RAVDESS and CREMA-D together; None if TESS_DIR, RAVDESS_DIR and CREMA_D_DIR do not name copies."""
    corpora = read_params(measuring.ROOT / "presets" / "voices.yaml")["corpus"]
    if not all(os.environ.get(f"{name.upper()}_DIR") for name in corpora["corpora"]):
        return None
    return _prepared({**corpora, "checksums": "ignore"})


def _prepared(corpus: dict[str, Any]) -> Corpus:
    made = Workspace(measuring.SCRATCH / f"{corpus['name']}-{digest_json([corpus, *manifests.SCHEMA])[:12]}")
    if not made.manifest.is_file():
        made.folder.mkdir(parents=True, exist_ok=True)
        made.set({"corpus": corpus, "prepare": {"bad_recordings": "leave_out"}})
        made.stage("download")
        shutil.rmtree(made.raw, ignore_errors=True)  # of a run that was killed
        (made.folder / "data" / corpus["name"] / "raw").rename(made.raw)
        made.stage("prepare", "raw", "manifest")
    return Corpus(made.raw, manifests.read(made.manifest))


@contextmanager
def made_of(corpus: Corpus, repeats: int = 1) -> Iterator[Workspace]:
    """Yield a temporary workspace in which every recording is linked `repeats` times, each time with other words."""
    measuring.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=measuring.SCRATCH, prefix="workspace-") as folder:
        made = Workspace(Path(folder))
        made.set({})
        rows = pd.concat([_repeated(corpus, number, made.raw) for number in range(repeats)], ignore_index=True)
        bad = pd.DataFrame(columns=list(manifests.BAD_COLUMNS))
        manifests.write(made.manifest.parent, manifests.Manifest(rows, bad))
        yield made


def _repeated(corpus: Corpus, number: int, raw: Path) -> pd.DataFrame:
    """Link every recording under another name and return its rows."""
    rows = corpus.rows.copy()
    for name in ("id", "text"):
        rows[name] = [f"{value}-{number}" for value in rows[name]]
    rows["path"] = [f"{number}/{path}" for path in rows["path"]]
    rows["sha256"] = [hashlib.sha256(f"{value}-{number}".encode()).hexdigest() for value in rows["sha256"]]
    for source, path in zip(corpus.paths, rows["path"], strict=True):
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (raw / path).symlink_to(source)
    return rows
