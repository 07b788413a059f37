"""Read, check and write the manifest, one row per utterance."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, replacing_folder

MANIFEST: Final = "manifest.csv"
BAD_RECORDINGS: Final = "bad_recordings.csv"
BAD_COLUMNS: Final = ("path", "reason")

PARTS: Final = ("", "train", "validation", "test")
"""What a user's table may say in its column `split`."""

DECIMALS: Final = 6
"""Of numbers in the file and in a frame, so that reading gives back what was written."""


@dataclass(frozen=True)
class Column:
    """A column's type, a test of one value, the same in words, and whether values are unique."""

    type: type[str] | type[int] | type[float]
    holds: Callable[[Any], bool]
    allowed: str
    unique: bool = False


_TEXT = Column(str, bool, "text, not empty")
_LEVEL = Column(float, lambda value: -400 < value <= 120, "a level in dB below full scale")

SCHEMA: Final[Mapping[str, Column]] = MappingProxyType(
    {
        "id": Column(str, bool, "text, not empty", unique=True),
        "path": Column(str, bool, "text, not empty", unique=True),
        "speaker": Column(str, lambda value: True, "text"),
        "emotion": _TEXT,
        "text": Column(str, lambda value: True, "text"),
        "sample_rate": Column(int, lambda value: value > 0, "Hz, above 0"),
        "channels": Column(int, lambda value: value > 0, "a number above 0"),
        "seconds": Column(float, lambda value: 0 < value < math.inf, "a number above 0"),
        "rms_dbfs": _LEVEL,
        "peak_dbfs": _LEVEL,
        "sha256": Column(str, lambda value: bool(re.fullmatch("[0-9a-f]{64}", value)), "64 hexadecimal digits"),
        "part": Column(str, lambda value: value in PARTS, "empty, train, validation or test"),
    }
)
"""The manifest's columns, in order."""

TESS_COUNTS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"emotion": (7, 400), "speaker": (2, 1400), "text": (200, 14)}
)
"""Number of different values of a column in TESS, and of utterances of each."""


@dataclass(frozen=True)
class Manifest:
    """The recordings of a corpus: `good` has the columns of `SCHEMA`, `bad` path and reason, both in corpus order."""

    good: pd.DataFrame
    bad: pd.DataFrame


def check(frame: pd.DataFrame, where: str, *, kind: str = "") -> pd.DataFrame:
    """Return a manifest if it fits the schema, and TESS (`kind`) if it is complete.

    Raises
    ------
    UserError
        Names `where`, the column, the row, what was found and what is allowed.
    """
    if list(frame.columns) != list(SCHEMA):
        raise UserError(
            f"{where}: expected the columns {', '.join(SCHEMA)}; found {', '.join(map(str, frame.columns))}."
        )
    for name, column in SCHEMA.items():
        for row, value in enumerate(frame[name], start=1):
            if not column.holds(value):
                raise UserError(f"{where}: row {row}: {name}: found {value!r}; allowed: {column.allowed}.")
        if column.unique and not frame[name].is_unique:
            twice = frame.loc[frame[name].duplicated(), name].iloc[0]
            raise UserError(f"{where}: {name}: '{twice}' occurs more than once.")
    if frame["emotion"].nunique() < 2:
        found = ", ".join(sorted(set(frame["emotion"]))) or "none"
        raise UserError(f"{where}: found {frame['emotion'].nunique()} label ({found}); a model needs at least two.")
    if kind == "tess":
        _check_tess(frame, where)
    return frame


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest as two CSV files, atomically."""
    with replacing_folder(folder) as aside:
        manifest.good.to_csv(aside / MANIFEST, index=False, lineterminator="\n", float_format=f"%.{DECIMALS}f")
        write_bad(aside / BAD_RECORDINGS, manifest.bad)


def write_bad(path: Path, bad: pd.DataFrame) -> None:
    """Write the list of bad recordings, atomically."""
    with replacing(path) as aside:
        bad.to_csv(aside, index=False, columns=list(BAD_COLUMNS), lineterminator="\n")


def read(path: Path) -> pd.DataFrame:
    """Read a manifest; text that looks like a number or a missing value stays text.

    Raises
    ------
    UserError
        The file is missing, is not a table, or breaks the schema.
    """
    advice = "Run `dvc repro prepare`."
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). {advice}") from None
    except ValueError as error:
        raise UserError(f"{path}: is not a table ({error}). {advice}") from None
    for name, column in SCHEMA.items():
        if name in frame and column.type is not str:
            try:
                frame[name] = [column.type(text) for text in frame[name]]
            except ValueError as error:
                raise UserError(f"{path}: {name}: {error}; allowed: {column.allowed}. {advice}") from None
    return check(frame, str(path))


def _check_tess(frame: pd.DataFrame, where: str) -> None:
    for column, (different, each) in TESS_COUNTS.items():
        counts = frame[column].value_counts()
        if len(counts) != different:
            raise UserError(f"{where}: TESS has {different} different values of {column}; found {len(counts)}.")
        wrong = counts[counts != each]
        if len(wrong):
            raise UserError(
                f"{where}: TESS has {each} utterances of each {column}; found {wrong.iloc[0]} of '{wrong.index[0]}'."
            )
