"""What a person sees in `mlflow ui`, in a real browser."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from helpers import released, tracked
from helpers.browsers import chromium
from helpers.services import mlflow_ui

pytest_plugins = ("helpers.mlflow_fixtures",)

pytestmark = pytest.mark.slow

MILLISECONDS = 30_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """A workspace with a live run, runs from files and a champion, in `mlflow ui`; give its address."""
    folder = tracked.make_workspace(tmp_path_factory.mktemp("ui") / "workspace")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tracked.train(folder, "full")
        released.release(folder, seed=1, skill=0.9)
        released.ask(1, reason="the first that we trust")
        with mlflow_ui(folder) as server:
            yield server.uri


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a real browser, without a screen."""
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(MILLISECONDS)
        yield opened


@pytest.fixture
def look(site: str, page: Page, tmp_path: Path) -> Callable[..., None]:
    """Open an address and wait until it shows texts; a screenshot is kept in any case."""

    def look(address: str, *texts: str) -> None:
        page.goto(f"{site}/{address}")
        try:
            for text in texts:
                page.get_by_text(text).first.wait_for()
        finally:
            page.screenshot(path=tmp_path / f"{len(list(tmp_path.glob('*.png')))}.png")

    return look


def test_runs(site: str, look: Callable[..., None]) -> None:
    run, live = tracked.run_named("random/all"), tracked.run_named("full/all")
    experiment = f"#/experiments/{run.info.experiment_id}/runs"

    look(experiment, "random/all", "speaker/A", "speaker/B", "full/all")
    # MLflow shows the first of the three parts of the split, in no fixed order
    look(f"{experiment}/{run.info.run_id}", "val_uar", "training_digest", "train.epochs", "tiny/random/all/")
    look(f"{experiment}/{run.info.run_id}/artifacts", "evaluation", "training")
    look(f"{experiment}/{live.info.run_id}/system-metrics", "cpu_utilization_percentage")


def test_compared_runs(site: str, page: Page, look: Callable[..., None]) -> None:
    run, other = tracked.run_named("random/all"), tracked.run_named("speaker/A")
    compared = f'runs=["{run.info.run_id}","{other.info.run_id}"]&experiments=["{run.info.experiment_id}"]'

    look(f"#/compare-runs?{compared}", "Comparing 2 Runs", "Parallel Coordinates Plot", "random/all", "speaker/A")
    page.locator(".js-plotly-plot .main-svg").first.wait_for()


def test_champion_gates_and_history(site: str, page: Page, look: Callable[..., None]) -> None:
    look(f"#/models/{tracked.MODEL}", "Version 1", "@ challenger", "@ champion", "history.000001.")
    look(f"#/models/{tracked.MODEL}/versions/1", "package_digest", "the first that we trust", "random.uar")

    # the way that README.md describes
    page.goto(site)
    page.get_by_text("Model training").first.click()
    page.get_by_text("Model registry").first.click()
    page.get_by_text(tracked.MODEL).first.wait_for()
