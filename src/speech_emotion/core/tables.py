"""Read and write tables as data frames."""

from pathlib import Path
from typing import Final

import pandas as pd

from speech_emotion.core.io import replacing

_TEXT: Final = (
    *("protocol", "fold", "id", "path", "speaker", "emotion", "text", "part", "prediction", "given", "predicted"),
    *("baseline", "condition", "hidden", "piece", "name"),
)
"""Columns that are text, whatever they hold."""


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with six decimals, atomically."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", float_format="%.6f")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table. Ids, speakers, labels and texts stay text, also `01` or `NA`; other empty cells are NaN."""
    columns = pd.read_csv(path, nrows=0).columns
    numbers = {name: [""] for name in columns if name not in _TEXT}
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), na_values=numbers, keep_default_na=False)
