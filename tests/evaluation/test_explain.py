from pathlib import Path
from typing import Any

import matplotlib.image
import pandas as pd
import pytest

from helpers.examples import EMOTIONS
from helpers.explaining import SETTINGS, make_explained
from speech_emotion.evaluation.explain import errors, explain, sample

TABLES = {"embeddings.csv", "errors.csv", "neighbours.csv", "network.csv", "occlusion.csv"}


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_explained(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def folder(explained: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("explained") / "explanation"
    explain(target, **explained)
    return target


def test_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == TABLES | {"embeddings.png", "occlusion.png"}
    for path in folder.glob("*.png"):
        assert matplotlib.image.imread(path)[..., :3].std() > 0.05, path.name


def test_occlusion_table(folder: Path) -> None:
    table = pd.read_csv(folder / "occlusion.csv", dtype={"piece": str})

    assert set(table["emotion"]) <= set(EMOTIONS)
    time = table[table["hidden"] == "time"]
    assert list(dict.fromkeys(time["piece"])) == [str(number) for number in range(1, 11)]
    groups = list(dict.fromkeys(table.loc[table["hidden"] == "features", "piece"]))
    assert groups == ["c0, energy", "c1 to c4", "c5 to c12"]


def test_similar_embeddings_have_the_same_emotion(folder: Path) -> None:
    [neighbours] = pd.read_csv(folder / "neighbours.csv").to_dict("records")

    # the embedding of this package is the mean frame, in which the colour of the noise is the emotion
    assert neighbours["same_emotion_across_speakers"] > 0.9


def test_sample_is_balanced(explained: dict[str, Any]) -> None:
    chosen = sample(explained["recordings"], SETTINGS)

    assert set(chosen["part"]) == {"validation"}
    assert set(chosen.groupby(["speaker", "emotion"]).size()) == {SETTINGS.utterances}


def predictions(rows: list[tuple[str, str, str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["id", "emotion", "prediction", "confidence"])
    table = table.assign(fold="A", speaker="A", text="back")
    return table.assign(**{f"p_{label}": 0.1 for label in EMOTIONS})


def test_errors_are_sorted_by_confidence() -> None:
    rows = [("1", "sad", "sad", 0.99), ("2", "sad", "angry", 0.6), ("3", "happy", "angry", 0.9)]

    assert list(errors({"speaker": predictions(rows)})["id"]) == ["3", "2"]
