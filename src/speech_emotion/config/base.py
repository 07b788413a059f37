"""Load and validate sections of params.yaml; every mistake is one line of one message."""

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from speech_emotion.core.errors import UserError

PARAMS = Path("params.yaml")


class Section(BaseModel):
    """A section of params.yaml: frozen, strict, without unknown keys. The comments in params.yaml describe each key."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)


SectionT = TypeVar("SectionT", bound=Section)


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read params.yaml as plain values; raise a UserError if it is missing, not YAML, or no mapping of sections."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Run this in the root of the repository.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text.") from None
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{path}: {line}not valid YAML: {' '.join(str(error.problem).split())}.") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as 'corpus:' and 'train:', found {_shown(values)}.")
    return values


def read_section(name: str, model: type[SectionT], path: Path = PARAMS) -> SectionT:
    """Read and validate one section of a YAML file; a UserError names the key, what was found and what is allowed."""
    values = read_params(path)
    if name not in values:
        raise UserError(f"{path}: the section '{name}:' is missing.{suggestion(name, map(str, values))}")
    return parse_section(name, model, values[name], path)


def section_or(default: SectionT, name: str, path: Path = PARAMS) -> SectionT:
    """Read a section, or return `default` if the file or the section does not exist.

    For commands that work outside of a clone, where params.yaml may belong to another project.
    """
    values = read_params(path) if path.is_file() else {}
    return parse_section(name, type(default), values[name], path) if name in values else default


def parse_section(name: str, model: type[SectionT], value: Any, path: Path = PARAMS) -> SectionT:
    """Validate the values of a section; `name` (empty for the whole file) and `path` are for the message."""
    try:
        # in JSON mode, lists are accepted as (frozen) tuples, and everything else stays strict
        return model.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise UserError("\n".join(f"{path}: {_message(mistake, name, model)}" for mistake in mistakes)) from None


def _message(mistake: Any, section: str, model: type[BaseModel]) -> str:
    location, text = mistake["loc"], mistake["msg"]
    key = ".".join([section, *map(str, location)]).strip(".")
    if mistake["type"] == "extra_forbidden":
        return f"{key}: unknown key.{suggestion(str(location[-1]), _known_keys(model, location))}"
    if mistake["type"] == "missing":
        return f"{key}: is missing."
    if mistake["type"] == "value_error":  # the text names the values
        text = text.removeprefix("Value error, ")
        return f"{key}: allowed: {text}" + "." * (text[-1] not in ".?")
    return f"{key}: found {_shown(mistake['input'])}. {text}."


def _known_keys(model: Any, location: Sequence[int | str]) -> list[str]:
    """Return the keys that are allowed where the last part of `location` is."""
    kind: Any = model
    for part in location[:-1]:
        kind = kind.model_fields[part].annotation if hasattr(kind, "model_fields") else get_args(kind)[1]
        # a section may be optional; another type is a mapping, whose keys are no fields
        kind = next((one for one in (kind, *get_args(kind)) if hasattr(one, "model_fields")), kind)
    return list(kind.model_fields)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known key, or with all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(names)}."


def _shown(value: Any) -> str:
    """Return a value as JSON on one line, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
