"""Fixtures and hooks of all tests."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from helpers.tiny_package import ENROLLED, make_package
from helpers.workspaces import GUARD, DemoRun, StageClock, Workspace, fresh_clone, offline_workspace, shrink
from speech_emotion.inference.recognizer import Recognizer

ROOT = Path(__file__).resolve().parent.parent

FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT")
"""Variables of a developer's shell or of DVC that would send the runs of a test elsewhere."""

LONGEST = (
    "test_pipeline_slow",
    "test_search_slow",
    "test_promote_server",
    "test_benchmarks",
    "test_server_slow",
    "test_own_corpus_slow",
    "test_page_slow",
    "test_offline",
    "test_cross_validation",
    "test_training",
    "test_promote",
)
"""Test files that take minutes, in the order in which they start; the second does not wait for the demo run."""

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def pytest_configure() -> None:
    # a shell ignores Ctrl-C in the background, and child processes would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(QUIET)
    # without bytecode, every process would compile this library
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="module", autouse=True)
def import_path() -> Iterator[None]:
    """Restore the import path after each file: MLflow prepends the code of a model that it loads."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository; tests do not write there."""
    return ROOT


@pytest.fixture(scope="session")
def tess_dir() -> Path:
    """The folder of TESS that TESS_DIR names."""
    if not os.environ.get("TESS_DIR"):
        pytest.skip("TESS_DIR is not set: it names a folder with the recordings of TESS")
    return Path(os.environ["TESS_DIR"])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package; tests only read it."""
    return make_package(tmp_path_factory.mktemp("model") / "package").folder


@pytest.fixture(scope="session")
def enrolled_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that accepts speaker profiles; tests only read it."""
    return make_package(tmp_path_factory.mktemp("enrolled") / "package", enrolled=ENROLLED).folder


@pytest.fixture(scope="session")
def recognizer(model: Path) -> Recognizer:
    return Recognizer.load(model)


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> DemoRun:
    """The demo, run once for all test processes."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    with FileLock(shared / "demo.lock"):
        told = shared / "demo.json"
        home = offline_workspace(shared / "newcomer")
        if not told.exists():
            shutil.rmtree(home.folder, ignore_errors=True)
            shrink(fresh_clone(home.folder))
            with StageClock() as clock:
                output = home.run("python", "scripts/demo.py")
            told.write_text(json.dumps({"output": output, "seconds": clock.seconds}))
    folder = home.folder / ".demo"
    tracking = f"sqlite:///{home.folder / 'mlflow.db'}"
    path = os.pathsep.join([str(folder / "src"), str(GUARD)])
    demo = Workspace(folder, {**home.environment, "MLFLOW_TRACKING_URI": tracking, "PYTHONPATH": path}, home.prefix)
    calls = Path(home.environment["NETWORK_GUARD_LOG"])
    return DemoRun(home=home, demo=demo, calls=calls, lock=shared / "demo.lock", **json.loads(told.read_text()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return forbid_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return forbid_skip((yield))


def forbid_skip(report: Any) -> Any:
    """Turn a skipped test into a failed one if SPEECH_EMOTION_NO_SKIPS is set."""
    if report.skipped and os.environ.get("SPEECH_EMOTION_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped where no test may be: {report.longrepr}"
    return report
