from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from speech_emotion.evaluation import plots

MOST_PIXELS = 1800
LABELS = ("angry", "happy", "sad")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    found = []
    original = plots.drawing

    @contextmanager
    def kept(path: Path, *, width: float, height: float) -> Iterator[Figure]:
        with original(path, width=width, height=height) as figure:
            yield figure
            found.append(figure)

    monkeypatch.setattr(plots, "drawing", kept)
    return found


def names(folds: int) -> list[str]:
    return ["all"] if folds == 1 else [f"speaker {number:02d}" for number in range(folds)]


def bins(folds: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (fold, when, low, rng.integers(1, 50), low + 0.05, rng.random())
        for fold in names(folds)
        for when in ("before", "after")
        for low in (0.1, 0.5, 0.9)
    ]
    return pd.DataFrame(rows, columns=["fold", "calibration", "low", "utterances", "confidence", "accuracy"])


def coverages(folds: int) -> pd.DataFrame:
    steps = np.linspace(0.1, 1, 5)
    return pd.concat([pd.DataFrame({"fold": fold, "coverage": steps, "risk": steps**2 / 2}) for fold in names(folds)])


def comparison(folds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [(protocol, name) for protocol in ("random", "speaker") for name in ("this model", "majority")]
    table = pd.DataFrame(rows, columns=["protocol", "name"]).assign(uar=0.5, low=0.4, high=0.6, line=1 / 3)
    single = pd.concat([table[table["protocol"] == "speaker"].assign(fold=fold) for fold in names(folds)])
    return table, single


@pytest.mark.parametrize("folds", [1, 2, 4, 24])
def test_figures_of_many_folds_fit_a_page(tmp_path: Path, folds: int) -> None:
    counts = {fold: np.array([[3, 1, 0], [0, 4, 0], [2, 0, 2]]) for fold in names(folds)}
    marks = dict.fromkeys(names(folds), (0.5, 0.1))

    plots.confusion_matrices(tmp_path / "confusion.png", counts, LABELS, title="x")
    plots.reliability(tmp_path / "reliability.png", bins(folds), title="x")
    plots.risk_coverage(tmp_path / "risk.png", coverages(folds), marks, title="x")
    table, single = comparison(folds)
    plots.uar_by_protocol(tmp_path / "table.png", table, folds=single, title="x")
    plots.uar_by_protocol(tmp_path / "unknown.png", table.assign(low=np.nan, high=np.nan), title="x")

    for path in tmp_path.iterdir():
        pixels = image.imread(path)
        # four matrices, the most that stand side by side, are a little wider
        assert pixels.shape[1] <= (MOST_PIXELS if folds != 4 else 2700), path.name
        assert pixels[..., :3].std() > 0.05, path.name


def test_many_confusion_matrices_are_summed(tmp_path: Path, drawn: list[Figure]) -> None:
    right, wrong = np.diag([10, 10, 10]), np.array([[0, 30, 0], [0, 10, 0], [0, 0, 10]])

    plots.confusion_matrices(
        tmp_path / "a.png", {name: wrong if name == "speaker 00" else right for name in names(9)}, LABELS, title="x"
    )

    matrix = drawn[0].axes[0]
    assert "9 folds" in matrix.get_title()
    assert [text.get_text() for text in matrix.texts if text.get_text()] == ["73", "27", "100", "100"]


def test_reliability_of_folds_is_weighted(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = bins(9).assign(accuracy=0.0, utterances=1)
    rows.loc[rows["fold"] == "speaker 00", ["accuracy", "utterances"]] = 1.0, 24

    plots.reliability(tmp_path / "a.png", rows, title="x")

    heights = [np.asarray(one.get_offsets())[:, 1] for one in drawn[0].axes[0].collections]
    np.testing.assert_allclose(heights, 0.75)
