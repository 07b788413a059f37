"""Takes the body of a request in any of MLflow's forms; gives the recordings in it, or what is wrong with it."""

import json
from typing import Any, Final

from speech_emotion.core.errors import UserError
from speech_emotion.inference.response import COLUMN

FORMS: Final = ("dataframe_records", "dataframe_split", "inputs", "instances")
"""The keys of which a request has one."""

_PARTS: Final = (4, 1000)
"""Commas and brackets of a request: of each recording, in any form, and beside them.

A body of nothing but empty lists would take thirty times its size as Python's objects.
"""

_EXAMPLE: Final = f'{{"dataframe_records": [{{"{COLUMN}": "<base64 of a file>"}}]}}'


def recordings(body: bytes | bytearray, *, most: int) -> list[str]:
    """Return the base64 texts of a request, one a recording.

    Parameters
    ----------
    body : bytes
        JSON, as MLflow's scoring server takes it.
    most : int
        How many recordings a request may hold.

    Raises
    ------
    UserError
        It is no JSON, has another form, holds no recording or too many; the message repeats nothing of the body.
    """
    each, beside = _PARTS
    if (parts := sum(map(body.count, (b",", b"[", b"{")))) > each * most + beside:
        raise UserError(f"the request has {parts} commas and brackets; at most {most} recordings are taken at once")
    try:
        # json by itself would read UTF-16 and NaN, which no other program takes for JSON
        content = json.loads(body.decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError:
        raise UserError("the body is JSON that is nested too deeply") from None
    except ValueError:  # of UTF-8 as well
        raise UserError("the body is not valid JSON in UTF-8") from None
    if not isinstance(content, dict):
        raise UserError(f"the body is {_kind(content)}; expected an object such as {_EXAMPLE}")
    forms = [name for name in FORMS if name in content]
    if len(forms) != 1 or not content.keys() <= {*FORMS, "params"}:
        raise UserError(
            f"the body must have exactly one of the keys {', '.join(FORMS)}, and beside it at most params: {_EXAMPLE}"
        )
    if not isinstance(content.get("params"), (dict, type(None))):
        raise UserError(f"params is {_kind(content['params'])}; expected an object, and there are none to be set")
    found = _READERS[forms[0]](content[forms[0]])
    if not found:
        raise UserError("there is no recording in the request")
    if len(found) > most:
        raise UserError(f"there are {len(found)} recordings in the request; at most {most} are taken at once")
    for number, one in enumerate(found):
        if not isinstance(one, str):
            raise UserError(f"row {number}: expected a base64 string, found {_kind(one)}")
    return found


def _no_number(token: str) -> None:
    raise ValueError(token)


def _records(rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise UserError(f"expected a list of objects, found {_kind(rows)}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != {COLUMN}:
            raise UserError(f'row {number}: expected an object with the one key "{COLUMN}"')
    return [row[COLUMN] for row in rows]


def _split(table: Any) -> list[Any]:
    if (
        not isinstance(table, dict)
        or table.get("columns") != [COLUMN]
        or not table.keys() <= {"columns", "data", "index"}
    ):
        raise UserError(f'dataframe_split: expected an object with "columns": ["{COLUMN}"] and "data"')
    rows = table.get("data")
    if not isinstance(rows, list):
        raise UserError(f'dataframe_split: "data" must be a list of rows, found {_kind(rows)}')
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 1:
            raise UserError(f"row {number}: expected a list of one base64 string")
    return [row[0] for row in rows]


def _columns(columns: Any) -> list[Any]:
    if not isinstance(columns, dict):
        return _records(columns)
    if columns.keys() != {COLUMN}:
        raise UserError(f'inputs: expected an object with the one key "{COLUMN}"')
    found = columns[COLUMN]
    return found if isinstance(found, list) else [found]


_READERS: Final = {"dataframe_records": _records, "dataframe_split": _split, "inputs": _columns, "instances": _records}


def _kind(value: Any) -> str:
    """Return what a value is in JSON's words; the value itself is the caller's and is not repeated."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]
