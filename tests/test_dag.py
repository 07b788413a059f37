"""dvc.yaml declares what the stages read, and leaves out what does not determine results."""

import ast
import subprocess
from functools import cache
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
PACKAGE = "speech_emotion"

STAGES = ["download", "prepare", "featurize", "split", "train", "evaluate", "baselines", "package", "report", "publish"]

NOT_DECLARED = tuple(f"src/{PACKAGE}/{name}" for name in ("core/", "config/", "tracking/", "registry/", "cli/"))
"""Packages that do not determine results: messages, settings (declared as params), MLflow, commands."""

READ_ONLY = {
    "featurize": {"data/manifest.py"},
    "split": {"data/manifest.py"},
    "train": {"data/splits.py", "models/onnx_export.py", "models/package.py"},
    "evaluate": {"data/splits.py"},
    "baselines": {"data/splits.py"},
    "package": {"data/splits.py"},
    "report": {"data/splits.py"},
}
"""Modules that only read a declared input, or write files that `evaluate` checks: a change of theirs reruns nothing."""

IMPORTS = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)

DEFINITIONS: dict = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def test_stages() -> None:
    assert list(DEFINITIONS) == STAGES
    assert sorted(path.stem for path in (ROOT / "pipeline").glob("*.py")) == sorted(STAGES)
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 220


def test_dag_fits_a_terminal() -> None:
    drawn = subprocess.run(["dvc", "dag"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert max(map(len, drawn.splitlines())) <= 140


@pytest.mark.parametrize("stage", STAGES)
def test_declared_code_covers_the_imports(stage: str) -> None:
    declared = [dep for dep in DEFINITIONS[stage].get("deps", []) if dep.startswith(("src/", "pipeline/"))]
    left_out = {f"src/{PACKAGE}/{name}" for name in READ_ONLY.get(stage, set())}

    imported = {f"src/{name}" for name in closure(ROOT / "pipeline" / f"{stage}.py")}
    missing = [
        file
        for file in sorted(imported)
        if not file.startswith(NOT_DECLARED)
        and not file.endswith("__init__.py")
        and file not in left_out
        and not any(file == dep or file.startswith(f"{dep}/") for dep in declared)
    ]

    if not DEFINITIONS[stage].get("always_changed"):
        assert missing == [], "add these to the stage's deps in dvc.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_undeclared_packages(stage: str) -> None:
    """A new message in core/, config/, cli/, tracking/ or registry/ reruns no stage."""
    for dep in DEFINITIONS[stage].get("deps", []):
        assert not any(f"{dep}/".startswith(name) or name.startswith(f"{dep}/") for name in NOT_DECLARED), dep


def test_training_does_not_depend_on_baselines_export_or_corpora() -> None:
    declared = DEFINITIONS["train"]["deps"]

    for module in ("models/baselines.py", "models/onnx_export.py", "data/corpora"):
        assert not any(f"src/{PACKAGE}/{module}/".startswith(f"{dep}/") for dep in declared)


@pytest.mark.parametrize("stage", STAGES)
def test_declared_parameters_are_read(stage: str) -> None:
    script = ROOT / "pipeline" / f"{stage}.py"
    read = sections(script).union(*(sections(SOURCES / name) for name in closure(script)))

    declared = {str(key).split(".")[0] for key in DEFINITIONS[stage].get("params", [])}

    # the number of workers changes no result
    assert declared == read - {"compute"}


@pytest.mark.parametrize("stage", STAGES)
def test_only_download_depends_on_the_source_folder(stage: str) -> None:
    declared = {key for key in DEFINITIONS[stage].get("params", []) if str(key).split(".")[0] == "corpus"}

    allowed = {"corpus.name", "corpus.kind", "corpus.corpora", "corpus.labels", "corpus.checksums"}
    assert declared <= ({"corpus"} if stage == "download" else allowed)


def closure(script: Path) -> set[str]:
    """Return the modules below src/ that a script imports, directly or not."""
    nodes = [node for node in ast.walk(parse(script)) if isinstance(node, ast.ImportFrom)]
    names = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
    direct = {name if name in IMPORTS.modules else name.rpartition(".")[0] for name in names} & IMPORTS.modules
    files = [Path(*name.split(".")) for name in direct.union(*map(IMPORTS.find_upstream_modules, direct))]
    return {(one / "__init__.py" if (SOURCES / one).is_dir() else one.with_suffix(".py")).as_posix() for one in files}


def sections(file: Path) -> set[str]:
    """Return the sections of params.yaml that a file asks for."""
    calls = [one for one in ast.walk(parse(file)) if isinstance(one, ast.Call)]
    asked = [one.args[0] for one in calls if getattr(one.func, "id", getattr(one.func, "attr", "")) == "read_section"]
    assert all(isinstance(name, ast.Constant) for name in asked), f"{file}: read_section takes a section's name"
    return {str(name.value) for name in asked if isinstance(name, ast.Constant)}


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
