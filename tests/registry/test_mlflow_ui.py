from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from helpers import released, tracked
from helpers.browsers import chromium
from helpers.services import mlflow_ui
from speech_emotion.registry.publish import publish

pytest_plugins = ("helpers.mlflow_fixtures",)

pytestmark = pytest.mark.slow

MILLISECONDS = 30_000


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a real browser, without a screen."""
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(MILLISECONDS)
        yield opened


def test_runs_and_challenger(workspace: Path, page: Page, tmp_path: Path) -> None:
    tracked.fill(workspace)
    tracked.train(workspace, "random")
    publish(workspace, corpus=tracked.CORPUS)
    run = tracked.run_named("random/all")
    experiment = f"#/experiments/{run.info.experiment_id}"

    with mlflow_ui(workspace) as server:

        def look(address: str, *texts: str) -> None:
            page.goto(f"{server.uri}/{address}")
            try:
                for text in texts:
                    page.get_by_text(text, exact=not text.endswith("/")).first.wait_for()
            finally:
                page.screenshot(path=tmp_path / f"{len(list(tmp_path.glob('*.png')))}.png")

        look("#/experiments", tracked.MODEL)
        look(f"{experiment}/runs", "random/all", "speaker/A", "speaker/B", "full/all")
        look(
            f"{experiment}/runs/{run.info.run_id}",
            "val_uar",
            "training_digest",
            "train.epochs",
            "tiny/random/all/",  # MLflow shows the first of the three parts, in no fixed order
        )
        look(f"{experiment}/runs/{run.info.run_id}/artifacts", "evaluation", "training")
        look(f"{experiment}/runs/{run.info.run_id}/system-metrics", "cpu_utilization_percentage")
        look(f"#/models/{tracked.MODEL}", "Version 1", "@ challenger")
        look(f"#/models/{tracked.MODEL}/versions/1", "package_digest", "random.uar")


def test_champion_gates_and_history(workspace: Path, page: Page, tmp_path: Path) -> None:
    released.release(workspace, seed=1, skill=0.9)
    released.ask(1, reason="the first that we trust")
    run = tracked.run_named("random/all")
    other = tracked.run_named("speaker/A")
    compared = f'runs=["{run.info.run_id}","{other.info.run_id}"]&experiments=["{run.info.experiment_id}"]'

    with mlflow_ui(workspace) as server:

        def look(address: str, *texts: str) -> None:
            page.goto(f"{server.uri}/{address}")
            try:
                for text in texts:
                    page.get_by_text(text).first.wait_for()
            finally:
                page.screenshot(path=tmp_path / f"{len(list(tmp_path.glob('*.png')))}.png")

        look(f"#/models/{tracked.MODEL}", "@ champion", "history.000001.", "the first that we trust")
        look(f"#/models/{tracked.MODEL}/versions/1", "the first that we trust", "random.uar", "at least 0.6")
        look(f"#/compare-runs?{compared}", "Comparing 2 Runs", "Parallel Coordinates Plot", "random/all", "speaker/A")
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        page.screenshot(path=tmp_path / "compared.png")

        # the way that README.md describes
        page.goto(server.uri)
        page.get_by_text("Model training").first.click()
        page.get_by_text("Model registry").first.click()
        page.get_by_text(tracked.MODEL).first.wait_for()
        page.screenshot(path=tmp_path / "registry.png")
