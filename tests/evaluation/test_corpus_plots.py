from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

from helpers.examples import manifest
from speech_emotion.evaluation.corpus_plots import _standardized, choose_examples, draw_corpus


def test_an_example_of_each_emotion_by_one_speaker_with_one_text() -> None:
    rows = manifest()
    rows = rows[(rows["speaker"] == "B") | (rows["emotion"] != "sad")]  # only B says anything sadly

    chosen = choose_examples(rows)

    assert list(chosen["emotion"]) == ["angry", "happy", "sad"]
    assert set(chosen["speaker"]) == {"B"}
    assert chosen["text"].nunique() == 1


def test_emotions_that_share_no_text_have_an_example_each_all_the_same() -> None:
    rows = manifest(words=3)
    rows["text"] = rows["emotion"] + rows["text"]

    assert list(choose_examples(rows)["emotion"]) == ["angry", "happy", "sad"]


def test_cepstra_of_all_utterances_are_on_one_scale() -> None:
    quiet, lively = np.array([[0.0, 2.0], [5.0, 5.0]]), np.array([[-9.0, 11.0], [5.0, 5.0]])

    shown = _standardized([quiet, lively])

    together = np.concatenate(shown, axis=1)
    assert together[0].mean() == pytest.approx(0)
    assert together[0].std() == pytest.approx(1)
    assert np.ptp(shown[1][0]) == pytest.approx(10 * np.ptp(shown[0][0]))
    assert not together[1].any()


@pytest.mark.slow
def test_a_corpus_is_drawn_and_drawn_again_to_the_same_bytes(tmp_path: Path) -> None:
    rows = manifest(words=2).assign(level_dbfs=-20.0)
    rng = np.random.default_rng(0)
    for path in rows["path"]:
        (tmp_path / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "raw" / path, 0.1 * rng.standard_normal(8000), 16000)

    draw_corpus(rows, tmp_path / "raw", tmp_path / "a")
    draw_corpus(rows, tmp_path / "raw", tmp_path / "b")

    names = ["confounds.png", "counts.png", "profiles.png", "utterances.png"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted([*names, "profiles.csv"])
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        picture = matplotlib.image.imread(tmp_path / "a" / name)
        assert picture[..., :3].std() > 0.05  # there is something to see
