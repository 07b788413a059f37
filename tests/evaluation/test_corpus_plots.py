from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

from helpers.examples import manifest
from speech_emotion.evaluation.corpus_plots import choose_examples, draw_corpus


def test_examples_share_speaker_and_text() -> None:
    rows = manifest()
    rows = rows[(rows["speaker"] == "B") | (rows["emotion"] != "sad")]  # only B has sad recordings

    chosen = choose_examples(rows)

    assert list(chosen["emotion"]) == ["angry", "happy", "sad"]
    assert set(chosen["speaker"]) == {"B"}
    assert chosen["text"].nunique() == 1


@pytest.mark.slow
def test_figures(tmp_path: Path) -> None:
    rows = manifest(words=2).assign(level_dbfs=-20.0)
    for path in rows["path"]:
        (tmp_path / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "raw" / path, 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)

    draw_corpus(rows, tmp_path / "raw", tmp_path / "drawn")

    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["confounds.png", "utterances.png"]
    assert all(matplotlib.image.imread(path)[..., :3].std() > 0.05 for path in drawn)
