from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers.examples import manifest
from helpers.recordings import tone
from helpers.tiny_package import make_package
from speech_emotion.audio.decode import decode, from_array
from speech_emotion.config.evaluation import BootstrapSettings, EvaluateSettings, RobustnessSettings
from speech_emotion.data import splits
from speech_emotion.evaluation.robustness import CONDITIONS, cases, predict, score, write

RATE = 24414
WAVE = tone(rate=RATE)
EVALUATE = EvaluateSettings(calibration_bins=10, bootstrap=BootstrapSettings(resamples=100, seed=1))
SETTINGS = RobustnessSettings(seed=3, utterances=10)


def sent(name: str, wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Return samples and rate of a condition, as the recognizer decodes them."""
    what = CONDITIONS[name](wave, RATE, 1)
    sound = decode(*what) if len(what) == 1 else from_array(*what)
    return sound.samples[:, 0], sound.sample_rate


def rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_pure(name: str) -> None:
    first, again = CONDITIONS[name](WAVE, RATE, 5), CONDITIONS[name](WAVE, RATE, 5)

    assert np.array_equal(WAVE, tone(rate=RATE))
    for one, other in zip(first, again, strict=True):
        assert (one == other) if isinstance(one, (bytes, int)) else np.array_equal(one, other)


@pytest.mark.parametrize("decibels", [30.0, 20.0])
def test_noise(decibels: float) -> None:
    changed, _ = sent(f"white noise at {decibels:.0f} dB", WAVE)
    assert 20 * np.log10(rms(WAVE) / rms(changed - WAVE)) == pytest.approx(decibels, abs=0.01)


def test_telephone_band() -> None:
    levels = {}
    for hertz in (100.0, 1000.0, 6000.0):
        wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
        changed, rate = sent("telephone", wave)
        assert rate == 8000
        levels[hertz] = 20 * np.log10(rms(changed) / rms(wave))
    assert levels[1000.0] == pytest.approx(0.0, abs=0.5)
    assert levels[100.0] < -30
    assert levels[6000.0] < -30


def test_table(tmp_path: Path) -> None:
    rows = manifest(words=4)
    for number, path in enumerate(rows["path"]):
        file = tmp_path / "raw" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, tone(0.5, hertz=150.0 + 20 * number), 16000)
    make_package(tmp_path / "models" / "all")
    split = rows.assign(fold="all", part="test")
    splits.write(tmp_path / "random.csv", split)

    chosen = cases(tmp_path / "random.csv", models=tmp_path / "models", raw=tmp_path / "raw", settings=SETTINGS)
    predicted = [predict(one, seed=1) for one in chosen]
    table = score("random", chosen, predicted, rows, EVALUATE)
    write(table, tmp_path / "report", corpus="tones")

    by_id = rows.set_index("id").loc[[one.id for one in chosen]]
    assert set(by_id.groupby(["speaker", "emotion"]).size()) == {2}
    assert by_id["text"].nunique() == 2
    assert list(table["condition"]) == list(CONDITIONS)
    original = table.iloc[0]
    assert (original["drop"], original["same_label"]) == (0.0, 1.0)
    assert table["drop"].to_numpy() == pytest.approx(original["uar"] - table["uar"].to_numpy())
    truth = by_id["emotion"].to_numpy()
    labels = np.array(["angry", "happy", "sad"])[[one[0].argmax() for one in predicted]]
    recalls = [(labels == truth)[truth == label].mean() for label in ("angry", "happy", "sad")]
    assert original["uar"] == pytest.approx(np.mean(recalls))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["table.csv", "table.png"]
    assert len(pd.read_csv(tmp_path / "report" / "table.csv")) == len(CONDITIONS)
