from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soxr

from helpers.recordings import encoded, tone
from helpers.voices import RATE, telephone, voices
from speech_emotion.audio.decode import decode, from_array
from speech_emotion.monitoring.audio_stats import FLOOR_DBFS, NAMES, AudioStats, describe, table


def of(samples: np.ndarray, rate: int = RATE) -> AudioStats:
    return describe(from_array(samples, rate))


def sine(hertz: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.float32)


def test_sine() -> None:
    found = of(sine(220.0))

    assert found.level_dbfs == pytest.approx(-9.0, abs=0.05)  # half of full scale, and 3 dB from peak to RMS
    assert found.peak_dbfs == pytest.approx(-6.0, abs=0.05)
    assert found.pitch_hz == pytest.approx(220, abs=1)
    assert (found.pitch_range, found.voiced_share) == (0.0, pytest.approx(1.0, abs=0.1))
    assert found.centroid_hz == pytest.approx(220, abs=5)
    assert (found.seconds, found.sample_rate, found.channels) == (1.0, RATE, 1)
    assert describe(from_array(np.stack([tone(), tone()], axis=1), RATE)).channels == 2


@pytest.mark.parametrize("decibels", [-12.0, 12.0])
def test_gain_changes_levels_only(decibels: float) -> None:
    voice = 0.2 * voices(1, seed=3)[0]

    before, after = asdict(of(voice)), asdict(of(voice * np.float32(10 ** (decibels / 20))))

    for name in ("level_dbfs", "peak_dbfs", "noise_dbfs"):
        assert after.pop(name) - before.pop(name) == pytest.approx(decibels, abs=0.11)
    assert after == before


def test_bandwidth_of_telephone() -> None:
    voice = voices(1, seed=4)[0]
    narrow = soxr.resample(telephone(voice, RATE), 8000, 48000)

    assert of(voice).bandwidth_hz > 7000
    assert of(narrow, 48000).bandwidth_hz < 4100


def test_noise() -> None:
    noise = 10 ** (-50 / 20) * np.random.default_rng(5).standard_normal(2 * RATE)
    assert of(noise.astype(np.float32)).voiced_share < 0.1

    noise[RATE // 2 : RATE] += sine(300.0)[: RATE // 2]
    assert of(noise.astype(np.float32)).noise_dbfs == pytest.approx(-50, abs=1)


def test_silence() -> None:
    silence = of(np.zeros(RATE, np.float32))

    assert (silence.pitch_hz, silence.pitch_range, silence.voiced_share) == (None, None, 0.0)
    assert (silence.level_dbfs, silence.noise_dbfs, silence.peak_dbfs) == (FLOOR_DBFS,) * 3
    assert (silence.centroid_hz, silence.bandwidth_hz) == (0.0, 0.0)


@pytest.mark.parametrize("rate", [1000, 8000, 24414, 192_000, 768_000])
@pytest.mark.parametrize("length", [1, 2, 777])
def test_short_recordings_have_finite_statistics(rate: int, length: int) -> None:
    values = asdict(of(np.full(length, 0.25, np.float32), rate))

    assert set(values) == set(NAMES)
    assert all(np.isfinite(value) for value in values.values() if value is not None)


def test_table_has_a_row_per_recording(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(encoded(tone()))
    recordings = pd.DataFrame({"id": ["a", "b"], "path": ["a.wav", "b.wav"]})

    one, two = (table(recordings, tmp_path, workers=workers) for workers in (1, 2))

    assert list(one.columns) == ["id", "path", *NAMES]
    assert one.equals(two)
    assert one["level_dbfs"].iloc[0] == describe(decode(tmp_path / "a.wav")).level_dbfs
