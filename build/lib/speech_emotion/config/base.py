"""Load and validate sections of params.yaml; every mistake is one message."""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from speech_emotion.core.errors import UserError


class Section(BaseModel):
    """A section of params.yaml: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)

PARAMS = Path("params.yaml")

SECTIONS: Final = (
    "corpus",
    "download",
    "prepare",
    "featurize",
    "augment",
    "split",
    "calibrate",
    "train",
    "evaluate",
    "robustness",
    "explain",
    "baselines",
    "survey",
    "package",
    "windows",
    "promote",
    "serve",
    "monitor",
    "tune",
    "compute",
)
"""Names of all sections, so that reading one section reports a misspelt one."""


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read params.yaml as plain Python values.

    Raises
    ------
    UserError
        The file is missing, is not YAML, or is not a mapping of sections.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). Run this in the root of the repository, where it lies."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text.") from None
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        raise UserError(f"{path}:{_line(error)} {str(error.problem).partition(' with value')[0]}. Keep one.") from None
    except YAMLError as error:
        raise UserError(f"{path}:{_line(error)} not valid YAML: {_problem(error)}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as 'corpus:' and 'train:', found {_shown(values)}.")
    return values


def read_section(name: str, model: type[SectionT], path: Path = PARAMS) -> SectionT:
    """Read one section of params.yaml, or of a file with sections of its own.

    Parameters
    ----------
    name : str
        The section's key. A file that is asked for a section of params.yaml may hold no others than those.
    model : type[Section]
        The model that checks it.
    path : Path
        The file.

    Raises
    ------
    UserError
        Names the key, what was found, and what is allowed.
    """
    values = read_params(path)
    unknown = unknown_sections(values, path) if name in SECTIONS else []
    if unknown:
        raise UserError("\n".join(unknown))
    if name not in values:
        raise UserError(f"{path}: the section '{name}:' is missing. `git diff {path}` shows what was changed.")
    return parse_section(name, model, values[name], path)


def unknown_sections(values: Mapping[str, Any], path: Path = PARAMS) -> list[str]:
    """Return one line for each unknown section, with the nearest known name."""
    return [
        f"{path}: {name}: there is no such section.{_suggestion(str(name), SECTIONS)}"
        for name in values
        if name not in SECTIONS
    ]


def parse_section(name: str, model: type[SectionT], value: Any, path: Path = PARAMS) -> SectionT:
    """Validate the values of a section; `name` and `path` are for the message."""
    try:
        # YAML has lists, the models have tuples, which are frozen: JSON mode reads the one as the other, and stays
        # strict about everything else
        return model.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise UserError(describe(error, name, model, path)) from None


def describe(error: ValidationError, name: str, model: type[BaseModel], path: Path) -> str:
    """Return one line per mistake: the key, the value found, and what is allowed."""
    schema = model.model_json_schema()
    lines = []
    for mistake in error.errors(include_url=False):
        location = mistake["loc"]
        key = ".".join([name, *map(str, location)])
        kind = mistake["type"]
        if kind == "extra_forbidden":
            lines.append(
                f"{path}: {key}: there is no such setting.{_suggestion(str(location[-1]), _keys(schema, location))}"
            )
            continue
        allowed = mistake["msg"].removeprefix("Value error, ") if kind == "value_error" else _allowed(schema, location)
        # what breaks a rule between settings is named by the rule
        found = "" if kind == "value_error" else f"found {_shown(mistake['input'])}; "
        lines.append(f"{path}: {key}: {'is missing; ' if kind == 'missing' else found}allowed: {allowed}.")
    return "\n".join(dict.fromkeys(lines))


def _line(error: YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return f" line {mark.line + 1}:" if mark else ""


def _problem(error: YAMLError) -> str:
    problem = error.problem if isinstance(error, MarkedYAMLError) else None
    return " ".join(str(problem or error).split())


def _shown(value: Any) -> str:
    """Return a value as YAML on one line, shortened."""
    if isinstance(value, float) and not math.isfinite(value):
        return f".{value}".replace(".-", "-.")
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(schema: Mapping[str, Any], location: Sequence[int | str]) -> str:
    return _in_words(schema, _at(schema, location))


def _at(schema: Mapping[str, Any], location: Sequence[int | str]) -> Mapping[str, Any]:
    """Return the part of a JSON schema for a location in a value."""
    here = schema
    for part in location:
        here = _resolved(schema, here)
        # a mapping whose keys are not given beforehand has no properties
        here = _item(here, part) if isinstance(part, int) else here.get("properties", {}).get(part, {})
    return here


def _item(part: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """Return what an array's schema says of an item; a pair or a triple has a schema for each."""
    each: Sequence[Mapping[str, Any]] = part.get("prefixItems", ())
    return each[number] if number < len(each) else part.get("items", {})


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references, and step over the null of an optional value."""
    options = [option for option in part.get("anyOf", []) if option.get("type") != "null"]
    if options:
        return _resolved(schema, options[0])
    if "$ref" in part:
        return _resolved(schema, schema["$defs"][part["$ref"].rpartition("/")[2]])
    return part


def _in_words(schema: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return what a part of a JSON schema allows, in words."""
    if "anyOf" in part:
        return " or ".join("null" if one.get("type") == "null" else _in_words(schema, one) for one in part["anyOf"])
    part = _resolved(schema, part)
    if "const" in part:
        return _shown(part["const"])
    if "enum" in part:
        return "one of " + ", ".join(_plain(value) for value in part["enum"])
    kind = part.get("type")
    if kind == "array":
        return f"a list of {_count(part)}, each {_in_words(schema, _item(part, 0))}"
    if kind == "object":
        return f"a mapping with the keys {', '.join(part['properties'])}" if "properties" in part else "a mapping"
    if kind == "string":
        pattern = part.get("pattern")
        return f"text that matches {pattern}" if pattern else "text, not empty"
    if kind == "boolean":
        return "true or false"
    return " ".join(["a whole number" if kind == "integer" else "a number", _bounds(part)]).strip()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _shown(value)


def _bounds(part: Mapping[str, Any]) -> str:
    if "minimum" in part and "maximum" in part:
        return f"from {part['minimum']} to {part['maximum']}"
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    return " and ".join(f"{word} {part[key]}" for key, word in words.items() if key in part)


def _count(part: Mapping[str, Any]) -> str:
    low, high = part.get("minItems", 0), part.get("maxItems")
    if low == high:
        return str(low)
    return f"{low} or more" if high is None else f"{low} to {high}"


def _keys(schema: Mapping[str, Any], location: Sequence[int | str]) -> list[str]:
    """Return the keys that a JSON schema knows beside the last one of a place in a value."""
    return list(_resolved(schema, _at(schema, location[:-1])).get("properties", {}))


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known here: {', '.join(known)}."


def section_or(default: SectionT, name: str, path: Path = PARAMS) -> SectionT:
    """Read a section of params.yaml for a command that works outside of a clone too.

    Without the file, the built-in settings hold; so too where it has no such section: every project of DVC has a
    params.yaml, and the working folder may be another one's. So other sections are nothing to complain of either.

    Parameters
    ----------
    default : Section
        The built-in settings.
    name : str
        The section's key.
    path : Path
        The file.

    Raises
    ------
    UserError
        The section is there and holds a mistake.
    """
    values = read_params(path) if path.is_file() else {}
    return parse_section(name, type(default), values[name], path) if name in values else default
