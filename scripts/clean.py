"""Remove .demo, .scratch and caches, and print the freed space."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHOLE = (".demo", ".pytest_cache", ".mypy_cache", ".ruff_cache", "dvc_plots", "build")
CODE = ("src", "pipeline", "scripts", "tests", "benchmarks")


def main() -> None:
    """Remove, and print a line for each folder."""
    freed = 0
    for folder in [*(ROOT / name for name in WHOLE), *sorted((ROOT / ".scratch").glob("*")), *bytecode()]:
        if folder.is_dir():
            size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
            shutil.rmtree(folder)
            freed += size
            if folder.name != "__pycache__":
                print(f"{folder.relative_to(ROOT)}/  {size / 1e6:.1f} MB")
    print(f"freed {freed / 1e6:.1f} MB. Kept: .venv, .voices, data, models, reports, DVC cache, MLflow.")


def bytecode() -> list[Path]:
    """Return the folders of compiled Python below the code's own folders."""
    return [folder for name in CODE for folder in (ROOT / name).rglob("__pycache__")]


if __name__ == "__main__":
    main()
