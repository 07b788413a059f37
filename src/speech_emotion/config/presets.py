"""Write a preset, a set of settings, into params.yaml and keep its comments and order."""

import difflib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from speech_emotion.config.base import PARAMS, read_params, suggestion
from speech_emotion.config.params import read_settings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing

COMMENT_COLUMN = 27
"""Where the comments of params.yaml begin, unless a value is too long."""

FOLDER = Path("presets")
"""Folder of the presets, beside params.yaml: one YAML file each, with the sections and keys that differ."""


def apply(name_or_path: str | Path, params_path: Path = PARAMS) -> str:
    """Write a preset into params.yaml and return the change as a unified diff; empty if there is none.

    `name_or_path` is a file in `presets/` without suffix, such as ``reference``, or the path of a YAML file. Raise a
    UserError and change nothing if there is no such preset, or it sets something that is not allowed.
    """
    preset = _find(name_or_path, params_path.parent / FOLDER)
    overrides = read_params(preset)
    read_params(params_path)  # an unreadable file is named as such before it is merged into
    before = params_path.read_text(encoding="utf-8")
    after = _merged(before, overrides)
    if after == before:
        return ""
    with replacing(params_path) as temporary:
        temporary.write_text(after, encoding="utf-8", newline="\n")
        try:
            read_settings(temporary)
        except UserError as error:
            raise UserError(str(error).replace(str(temporary), f"{params_path} with {preset}")) from None
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, str(params_path), f"{params_path} with {preset}"))


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the presets in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _find(name_or_path: str | Path, folder: Path) -> Path:
    for path in (folder / f"{name_or_path}.yaml", Path(name_or_path)):
        if path.is_file():
            return path
    known = names(folder)
    if not known:
        raise UserError(f"{folder}: there are no presets here. Run this in the root of the repository, where they lie.")
    raise UserError(f"{folder}: there is no preset '{name_or_path}'.{suggestion(str(name_or_path), known)}")


def _merged(text: str, overrides: Mapping[str, Any]) -> str:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 4096
    params = yaml.load(text)
    _merge(params, overrides)
    out = io.StringIO()
    yaml.dump(params, out)
    return out.getvalue()


def _merge(target: CommentedMap, overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if isinstance(value, Mapping) and value and isinstance(target.get(key), CommentedMap) and target[key]:
            _merge(target[key], value)
        elif key not in target or target[key] != value:
            # equal values stay as they were written: 30.0, 3e1
            target[key] = _in_flow(value)
            if comment := target.ca.items.get(key, [None] * 3)[2]:
                comment.start_mark.column = COMMENT_COLUMN  # a long value that was there may have moved it


def _in_flow(value: Any) -> Any:
    """Return lists and mappings so that they are written on one line, as everywhere in params.yaml."""
    if isinstance(value, Mapping):
        mapping = CommentedMap({key: _in_flow(inner) for key, inner in value.items()})
        mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq([_in_flow(inner) for inner in value])
        sequence.fa.set_flow_style()
        return sequence
    return value


class _Representer(RoundTripRepresenter):
    """Writes null as the word."""

    def represent_none(self, _data: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)
