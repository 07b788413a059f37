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
from speech_emotion.core.tables import read_table

MANIFEST: Final = "manifest.csv"
BAD_RECORDINGS: Final = "bad_recordings.csv"
BAD_COLUMNS: Final = ("path", "reason")

PARTS: Final = ("", "train", "validation", "test")
"""What a user's table may say in its column `split`."""

SEXES: Final = ("", "female", "male")

DECIMALS: Final = 6
"""Decimals of numbers in CSV and in memory, so that a round trip is exact."""


@dataclass(frozen=True)
class Column:
    """A column's type, a test of one value, the same in words, and whether values are unique."""

    type: type[str] | type[int] | type[float]
    holds: Callable[[Any], bool]
    allowed: str
    unique: bool = False


_KEY = Column(str, bool, "text, not empty", unique=True)
_TEXT = Column(str, lambda value: True, "text")
_COUNT = Column(int, lambda value: value > 0, "a number above 0")
_LEVEL = Column(float, lambda value: -400 < value <= 120, "a level in dB below full scale")

SCHEMA: Final[Mapping[str, Column]] = MappingProxyType(
    {
        "id": _KEY,
        "path": _KEY,
        "corpus": _TEXT,
        "speaker": _TEXT,
        "sex": Column(str, lambda value: value in SEXES, "empty, female or male"),
        "emotion": Column(str, bool, "text, not empty"),
        "text": _TEXT,
        "sample_rate": _COUNT,
        "channels": _COUNT,
        "seconds": Column(float, lambda value: 0 < value < math.inf, "a number above 0"),
        "rms_dbfs": _LEVEL,
        "peak_dbfs": _LEVEL,
        "sha256": Column(str, lambda value: bool(re.fullmatch("[0-9a-f]{64}", value)), "64 hexadecimal digits"),
        "part": Column(str, lambda value: value in PARTS, "empty, train, validation or test"),
    }
)
"""The manifest's columns, in order."""


@dataclass(frozen=True)
class Manifest:
    """The recordings of a corpus: `good` has the columns of `SCHEMA`, `bad` path and reason, both in corpus order."""

    good: pd.DataFrame
    bad: pd.DataFrame


def check(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a manifest if it fits the schema; otherwise raise a UserError with the column, row, value and rule."""
    if list(frame.columns) != list(SCHEMA):
        raise UserError(f"{where}: expected the columns {', '.join(SCHEMA)}; got {', '.join(map(str, frame.columns))}.")
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
    return frame


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest as two CSV files, atomically."""
    with replacing_folder(folder) as temporary:
        manifest.good.to_csv(temporary / MANIFEST, index=False, lineterminator="\n", float_format=f"%.{DECIMALS}f")
        write_bad(temporary / BAD_RECORDINGS, manifest.bad)


def write_bad(path: Path, bad: pd.DataFrame) -> None:
    """Write the list of bad recordings, atomically."""
    with replacing(path) as temporary:
        bad.to_csv(temporary, index=False, columns=list(BAD_COLUMNS), lineterminator="\n")


def read(path: Path) -> pd.DataFrame:
    """Read a manifest; raise a UserError if it is missing or breaks the schema."""
    advice = "Run `dvc repro prepare`."
    frame = read_table(path, text=SCHEMA, advice=advice)
    for name, column in SCHEMA.items():
        if name in frame and column.type is not str:
            try:
                frame[name] = [column.type(text) for text in frame[name]]
            except ValueError as error:
                raise UserError(f"{path}: {name}: {error}; allowed: {column.allowed}. {advice}") from None
    return check(frame, str(path))
