"""Read and write tables as data frames."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pandas as pd

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import open_regular_file, replacing

TEXT: Final = (
    *("protocol", "fold", "id", "path", "corpus", "speaker", "sex", "emotion", "text", "part", "prediction"),
    *("given", "predicted", "baseline", "condition", "name"),
)
"""Columns that are text, whatever they hold."""


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with six decimals, atomically."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", float_format="%.6f")


def read_table(path: Path, *, text: Iterable[str] = TEXT, advice: str = "") -> pd.DataFrame:
    """Read a table. The columns `text` stay text, also `01` or `NA`; empty cells of other columns are NaN.

    Raise a `UserError` that ends with `advice` if the file cannot be read or is not a table.
    """
    text = tuple(text)
    try:
        with open_regular_file(path) as file:
            columns = pd.read_csv(file, nrows=0).columns
            file.seek(0)
            numbers = {name: [""] for name in columns if name not in text}
            return pd.read_csv(file, dtype=dict.fromkeys(text, str), na_values=numbers, keep_default_na=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). {advice}".rstrip()) from None
    except ValueError as error:
        raise UserError(f"{path}: is not a table ({str(error).strip()}). {advice}".rstrip()) from None
