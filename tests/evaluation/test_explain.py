from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from helpers.examples import EMOTIONS
from helpers.explaining import SETTINGS, make_explained
from helpers.tiny_package import COEFFICIENTS, make_package
from speech_emotion.evaluation.explain import errors, explain, groups, occlusion, sample
from speech_emotion.inference.recognizer import Recognizer


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_explained(tmp_path_factory.mktemp("case"))


def test_files(explained: dict[str, Any], tmp_path: Path) -> None:
    explain(tmp_path / "explanation", **explained)

    table = pd.read_csv(tmp_path / "explanation" / "occlusion.csv")
    written = sorted(path.name for path in (tmp_path / "explanation").iterdir())
    assert written == ["errors.csv", "occlusion.csv", "occlusion.png"]
    assert matplotlib.image.imread(tmp_path / "explanation" / "occlusion.png")[..., :3].std() > 0.05
    assert set(table["emotion"]) <= set(EMOTIONS)
    assert list(dict.fromkeys(table["group"])) == ["c0, energy", "c1 to c4", "c5 to c12"]


def test_sample_is_balanced(explained: dict[str, Any]) -> None:
    chosen = sample(explained["recordings"], SETTINGS)

    assert set(chosen["part"]) == {"validation"}
    assert set(chosen.groupby(["speaker", "emotion"]).size()) == {SETTINGS.utterances}


def test_feature_groups() -> None:
    mfcc = [f"mfcc_{name}" for name in ("1", "4", "5", "13", "30", "1_delta", "1_delta_delta")]

    found = {name: columns.tolist() for name, columns in groups([*mfcc, "f0", "alpha_ratio"]).items()}

    assert found == {
        "c1 to c4": [0, 1],
        "c5 to c12": [2],
        "c13 to c24": [3],
        "c25 and up": [4],
        "deltas": [5, 6],
        "f0": [7],
        "alpha ratio": [8],
    }


def test_important_group(tmp_path: Path) -> None:
    recognizer = Recognizer.load(make_package(tmp_path / "package").folder)
    frames = np.zeros((2, 50, COEFFICIENTS), np.float32)
    frames[0, :, 7], frames[1, :, 7] = 40.0, -40.0  # one of c5 to c12; the mean frame is zero

    table = occlusion(recognizer, list(frames)).groupby("group")["log_odds"].agg(lambda one: one.abs().max())

    assert table["c5 to c12"] > 1e-3
    assert table[["c0, energy", "c1 to c4"]].to_numpy() == pytest.approx(0, abs=1e-6)


def predictions(rows: list[tuple[str, str, str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["id", "emotion", "prediction", "confidence"])
    table = table.assign(fold="A", speaker="A", text="back")
    return table.assign(**{f"p_{label}": 0.1 for label in EMOTIONS})


def test_errors_are_sorted_by_confidence() -> None:
    rows = [("1", "sad", "sad", 0.99), ("2", "sad", "angry", 0.6), ("3", "happy", "angry", 0.9)]

    assert list(errors({"speaker": predictions(rows)})["id"]) == ["3", "2"]
