"""The notebook runs, and git holds no outputs of it."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

NOTEBOOK = Path("notebooks") / "explore.ipynb"


def read(root: Path) -> Any:
    return nbformat.read(root / NOTEBOOK, as_version=4)


def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run every cell and return the text of the outputs."""
    path = [str(root / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    notebook = read(root)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(root / "notebooks")}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.output_type == "error"] == []
    return "\n".join(f"{one.get('text', '')}{one.get('data', {}).get('text/plain', '')}" for one in outputs)


def test_no_outputs_in_git(root: Path) -> None:
    cells = [cell for cell in read(root).cells if cell.cell_type == "code"]

    assert [cell.id for cell in cells if cell.outputs or cell.execution_count is not None] == []
    assert [cell.id for cell in cells if cell.metadata] == []


def test_runs_without_tess(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESS_DIR", raising=False)

    shown = run(root, monkeypatch)

    assert [word for word in ("recordings,", "UAR", "answer") if word not in shown] == []


def test_runs_with_tess(root: Path, tess_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "2800 recordings" in run(root, monkeypatch)
