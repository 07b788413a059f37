"""dvc.yaml holds what the stages really read: modules by their imports, parameters by the sections they ask for."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from speech_emotion.registry import register

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
PACKAGE = "speech_emotion"
NAMES_ONLY = {path.relative_to(SOURCES).as_posix() for path in (SOURCES / PACKAGE).rglob("__init__.py")} - {
    f"{PACKAGE}/data/corpora/__init__.py"
}
"""Packages that hold nothing, or only give names to others."""

OBSERVERS = {
    f"src/{PACKAGE}/{name}.py"
    for name in ("config/compute", "core/progress", "tracking/event_log", "tracking/lineage", "tracking/mlflow_run")
}
"""Modules that watch a stage and tell MLflow or a terminal about it, or say how many share its work: what it writes is
the same without them."""

DEFINITIONS: dict = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
ORDER = [
    "download",
    "prepare",
    "portray",
    "featurize",
    "split",
    "train",
    "evaluate",
    "robustness",
    "baselines",
    "compare",
    "explain",
    "survey",
    "package",
    "report",
    "publish",
]


def test_stages_stand_in_the_order_in_which_data_meets_them() -> None:
    assert list(DEFINITIONS) == ORDER


def test_every_stage_has_one_script_and_every_script_a_stage() -> None:
    assert sorted(path.stem for path in (ROOT / "pipeline").glob("*.py")) == sorted(ORDER)


@pytest.mark.parametrize("stage", ORDER)
def test_declared_modules_are_those_that_the_stage_imports(stage: str) -> None:
    read = {f"pipeline/{stage}.py", *(f"src/{name}" for name in closure(ROOT / "pipeline" / f"{stage}.py"))} - OBSERVERS

    declared = {dep for dep in DEFINITIONS[stage].get("deps", []) if dep.startswith(("src/", "pipeline/"))}

    if not DEFINITIONS[stage].get("always_changed"):  # what runs every time has nothing to notice
        assert declared == read, difference(stage, "deps", declared, read)


@pytest.mark.parametrize("stage", ORDER)
def test_declared_parameters_are_those_that_the_stage_reads(stage: str) -> None:
    script = ROOT / "pipeline" / f"{stage}.py"
    read = sections(script).union(*(sections(SOURCES / name) for name in closure(script) if name.endswith(".py")))

    declared = {str(key).split(".")[0] for key in DEFINITIONS[stage].get("params", [])}

    # how many workers share the work changes no result, so a change of it reruns nothing
    assert declared == read - {"compute"}, difference(stage, "params", declared, read - {"compute"})


@pytest.mark.parametrize("stage", ORDER)
def test_where_the_recordings_lie_matters_to_download_alone(stage: str) -> None:
    declared = {key for key in DEFINITIONS[stage].get("params", []) if str(key).split(".")[0] == "corpus"}

    assert declared <= ({"corpus"} if stage == "download" else {"corpus.name", "corpus.kind"})


def test_a_change_of_the_command_line_reruns_no_stage() -> None:
    declared = {dep for definition in DEFINITIONS.values() for dep in definition.get("deps", [])}

    assert not [dep for dep in declared if "/cli" in dep or dep in {"src", "src/speech_emotion"}]


def test_what_lies_beside_a_registered_model_is_what_its_code_imports() -> None:
    code = register._PREDICTION
    needed = {name.removeprefix(f"{PACKAGE}/") for name in closure(SOURCES / PACKAGE / "serving" / "pyfunc.py")}

    missing = {name for name in needed if name not in code and name.split("/")[0] not in code}

    assert missing <= {"serving/__init__.py", "serving/pyfunc.py"}


def closure(script: Path) -> set[str]:
    """Return the library's files that a script reads, below src/: modules it imports, theirs, and data beside them."""
    found: set[Import] = set()
    waiting = set(imports(script))
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting |= imports(SOURCES / one.file, only_its_top=one.as_parent) - found
    modules = {one.file for one in found}
    return modules.union(*(data_files(SOURCES / module) for module in modules))


@dataclass(frozen=True)
class Import:
    """A module that is imported: by name, or as the package around such a one, of which only the top then runs."""

    file: str
    as_parent: bool


@cache
def imports(file: Path, only_its_top: bool = False) -> frozenset[Import]:
    """Return the library's modules that a file imports: at its top and, unless that is all that runs, in functions."""
    found: set[Import] = set()
    for node in statements(parse(file), only_its_top=only_its_top):
        if isinstance(node, ast.Import):
            found |= {one for alias in node.names for one in modules(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            found |= {one for alias in node.names for one in modules(f"{node.module}.{alias.name}")}
    return frozenset(found)


def statements(node: ast.AST, *, only_its_top: bool) -> Iterator[ast.AST]:
    """Yield what is inside a node and can run; imports that only a type checker sees cannot."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        if only_its_top and isinstance(child, ast.FunctionDef):
            continue
        yield child
        yield from statements(child, only_its_top=only_its_top)


def modules(name: str) -> Iterator[Import]:
    """Yield the files that an import of a dotted name runs: its packages, and itself where it is a module."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return
    bases = [Path(*parts[:end]) for end in range(1, len(parts) + 1)]
    candidates = [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py")]
    files = [path.as_posix() for path in candidates if (SOURCES / path).is_file()]
    yield from (Import(file, as_parent=file != files[-1]) for file in files if file not in NAMES_ONLY)


@cache
def data_files(file: Path) -> frozenset[str]:
    """Return the files beside a module that it names in a string."""
    strings = {str(node.value) for node in ast.walk(parse(file)) if isinstance(node, ast.Constant)}
    beside = {path.name: path for path in file.parent.iterdir() if path.is_file() and path.suffix not in {".py", ""}}
    return frozenset(beside[name].relative_to(SOURCES).as_posix() for name in beside.keys() & strings)


def sections(file: Path) -> set[str]:
    """Return the sections of params.yaml that a file asks for."""
    calls = [node for node in ast.walk(parse(file)) if isinstance(node, ast.Call)]
    asked = [
        call.args[0] for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) == "read_section"
    ]
    assert all(isinstance(name, ast.Constant) for name in asked), (
        f"{file}: read_section takes the section's name as it is"
    )
    return {str(name.value) for name in asked if isinstance(name, ast.Constant)}


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def difference(stage: str, key: str, declared: set[str], read: set[str]) -> str:
    """Return the edit of dvc.yaml that makes it right."""
    lines = [f"  add     - {name}" for name in sorted(read - declared)]
    lines += [f"  remove  - {name}" for name in sorted(declared - read)]
    return "\n".join([f"dvc.yaml, stage '{stage}', {key}:", *lines])
