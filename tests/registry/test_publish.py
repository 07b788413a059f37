import re
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers import tracked
from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_resolution import fetch
from speech_emotion.registry.publish import PublishResult, publish

pytest_plugins = ("helpers.mlflow_fixtures",)

ROOT = Path(__file__).resolve().parent.parent.parent
ALL = ("full/all", "random/all", "speaker/A", "speaker/B")


@pytest.fixture
def finished(workspace: Path) -> Path:
    """A workspace that has been through the pipeline, of whose trainings MLflow knows nothing."""
    tracked.fill(workspace)
    return workspace


def published() -> PublishResult:
    return publish(Path(), corpus=tracked.CORPUS)


def numbers() -> list[int]:
    return sorted(int(found.version) for found in tracked.client().search_model_versions(f"name = '{tracked.MODEL}'"))


def test_runs_and_version_are_created(finished: Path) -> None:
    result = published()

    assert (result.created, result.completed, result.version, result.registered) == (ALL, (), 1, True)
    assert {run.info.run_name: run.info.status for run in tracked.runs()} == dict.fromkeys(ALL, "FINISHED")
    challenger = tracked.client().get_model_version_by_alias(tracked.MODEL, "challenger")
    assert challenger.run_id == tracked.run_named("full/all").info.run_id
    expected = {
        "package_digest": tracked.digest_folder(finished / "models" / tracked.CORPUS / "package"),
        "labels": "angry, happy, sad",
        "random.uar": "0.7500",
        "git.commit": tracked.git(finished, "rev-parse", "HEAD"),
    }
    assert expected.items() <= challenger.tags.items()
    assert len(challenger.tags) <= 12
    assert "full.uar" not in challenger.tags  # of its validation part
    assert "| random | 0.750 |" in challenger.description


def test_run_from_files_is_complete_and_publish_idempotent(finished: Path) -> None:
    published()

    run = tracked.run_named("speaker/A")
    assert run.data.tags["recorded"] == "from files"
    assert run.data.params["train.network.lstm"] == "[8]"
    assert tracked.steps(run, "val_uar") == [1, 2, 3]
    results = {"test/uar": 0.5, "test/recall/angry": 0.5, "test_mean/uar": 0.375}
    assert results.items() <= run.data.metrics.items()
    files = {f"evaluation/{name}" for name in ("confusion.png", "metrics.json", "predictions.csv")}
    assert tracked.artifacts(run, "evaluation") == files
    assert "training/model.weights.h5" in tracked.artifacts(run, "training")
    # a protocol without a test part
    assert tracked.run_named("full/all").data.metrics["validation/uar"] == 0.875

    before = [run.to_dictionary() for run in tracked.runs()]
    again = published()
    assert (again.created, again.completed, again.registered, again.moved) == ((), (), False, False)
    assert again.lines[0].startswith("up to date")
    assert [run.to_dictionary() for run in tracked.runs()] == before
    assert numbers() == [1]


def test_live_run_is_completed_and_updated(workspace: Path) -> None:
    tracked.train(workspace, "random")
    tracked.evaluate(workspace, "random", {"all": 0.75})
    tracked.write_lock(workspace, models="5" * 32 + ".dir")

    result = published()

    run = tracked.run_named("random/all")
    assert (result.created, result.completed) == ((), ("random/all",))
    assert (run.data.tags["recorded"], run.data.metrics["test/uar"]) == ("live", 0.75)
    assert tracked.steps(run, "loss") == [1, 2, 3]
    assert published().completed == ()

    tracked.evaluate(workspace, "random", {"all": 0.625})
    assert published().completed == ("random/all",)
    assert tracked.run_named("random/all").data.metrics["test/uar"] == 0.625


def test_interrupted_publish_continues(finished: Path) -> None:
    published()
    client = tracked.client()
    for run in tracked.runs():
        client.delete_tag(run.info.run_id, "published")
    client.set_terminated(tracked.run_named("full/all").info.run_id, "KILLED")

    result = published()

    assert (result.created, result.completed) == ((), ALL)
    for run in tracked.runs():
        assert (run.info.status, tracked.steps(run, "loss")) == ("FINISHED", [1, 2, 3])
        assert len(client.get_metric_history(run.info.run_id, "learning_rate")) == 3


def test_restored_package_gets_its_old_version(finished: Path) -> None:
    published()
    package = finished / "models" / tracked.CORPUS / "package"
    shutil.copytree(package, finished / "first")
    tracked.package(finished, seed=1)
    assert (published().version, numbers()) == (2, [1, 2])

    # a parameter is set back, and DVC's cache gives the first package again
    shutil.rmtree(package)
    shutil.copytree(finished / "first", package)
    result = published()

    assert (result.version, result.registered, result.moved, numbers()) == (1, False, True, [1, 2])


def test_temporary_experiment_does_not_move_the_challenger(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published()
    # `dvc exp run --temp` works in a copy, and names the original in DVC_ROOT
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("mlruns", "mlflow.db"))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(finished))
    tracked.package(copy, seed=1)

    result = published()

    assert (result.version, result.registered, result.moved) == (2, True, False)
    assert int(tracked.client().get_model_version_by_alias(tracked.MODEL, "challenger").version) == 1


def test_version_without_files_is_registered_again(finished: Path) -> None:
    published()
    shutil.rmtree(finished / "mlruns")
    assert (published().version, published().registered) == (2, False)

    tracked.client().delete_model_version(tracked.MODEL, "2")
    assert (published().version, published().registered) == (3, False)


def test_publish_without_git_lock_splits_reports_or_package(workspace: Path) -> None:
    tracked.write_training(workspace, "random")
    for folder in (".git", "data"):
        shutil.rmtree(workspace / folder)
    (workspace / "dvc.lock").unlink()

    result = published()

    assert (result.created, result.version) == (("random/all",), None)
    tags = tracked.run_named("random/all").data.tags
    assert tags["git.commit"].startswith("unknown")
    assert tags["dvc.lock"] == "absent"
    assert "mlflow.source.git.commit" not in tags


@pytest.mark.parametrize(
    ("name", "content"), [("training.json", "{"), ("training.json", "{}"), ("history.csv", "epoch,loss\n1,high\n")]
)
def test_damaged_training_is_named(workspace: Path, name: str, content: str) -> None:
    folder = tracked.write_training(workspace, "random")
    (folder / name).write_text(content)

    with pytest.raises(UserError, match=name):
        published()


def test_moved_folder(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.fill(workspace)
    publish(workspace, corpus=tracked.CORPUS)
    moved = workspace.rename(tmp_path / "another place")
    monkeypatch.chdir(moved)

    # the command of the documentation
    [command] = re.findall(r"^    (sqlite3 .*)$", (ROOT / "docs" / "promotion.md").read_text(), flags=re.MULTILINE)
    places = {"OLD": workspace.as_uri(), "NEW": moved.as_uri()}
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], env={"PATH": "/usr/bin:/bin"} | places, check=True)

    assert (fetch(f"models:/{tracked.MODEL}@challenger").folder / "package.json").exists()
    assert "evaluation/metrics.json" in tracked.artifacts(tracked.run_named("random/all"), "evaluation")
    assert not publish(moved, corpus=tracked.CORPUS).registered
    # what is logged later goes to the new folder too
    tracked.train(moved, "word")
    assert tracked.artifacts(tracked.run_named("word/all"), "training")
    assert not (tmp_path / "a workspace").exists()
