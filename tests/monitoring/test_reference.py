from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.tiny_package import make_package
from speech_emotion.config.monitoring import ReferenceDataSettings
from speech_emotion.core.errors import UserError
from speech_emotion.monitoring.audio_stats import NAMES
from speech_emotion.monitoring.reference import FILE, NUMBERS, make, read, text

SETTINGS = ReferenceDataSettings(seed=7, halvings=50)


def rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {**dict.fromkeys(NAMES, 1.0), "level_dbfs": round(level, 1), "sample_rate": 16000, "channels": 1}
        for level in rng.normal(-25, 4, count)
    ]


def answers(count: int) -> list[dict[str, Any]]:
    return [{"label": ("happy", "sad")[n % 2], "sure": n % 10 > 0, "confidence": 0.9} for n in range(count)]


def test_expands_distribution() -> None:
    known = rows(500)

    level = make(known, answers(50), SETTINGS).numbers["level_dbfs"]

    values = np.sort([row["level_dbfs"] for row in known])
    assert level.rows == 500
    assert np.abs(np.sort(level.values(1)) - values).mean() < 0.1


def test_halves_of_more_data_differ_less() -> None:
    few, many = (make(rows(count), answers(50), SETTINGS).numbers["level_dbfs"].halves for count in (100, 3200))

    # of a normal distribution with a deviation of 4: about as the root of the number
    assert 0.5 < few < 2.5
    assert 3 < few / many < 12


def test_counts_classes() -> None:
    found = make(rows(20), answers(40), SETTINGS).classes

    assert found["sample_rate"].counts == {"16000": 20}
    assert found["sample_rate"].halves == 0
    assert found["label"].counts == {"happy": 20, "sad": 20}
    assert found["sure"].counts == {"not sure": 4, "sure": 36}


def test_equal_data_gives_equal_bytes() -> None:
    first, second = (text(make(rows(2000), answers(200), SETTINGS)) for _ in range(2))

    assert first == second
    assert len(first) < 40_000


def test_leaves_out_empty_measures() -> None:
    unvoiced = [{**row, "pitch_hz": None, "pitch_range": None} for row in rows(50)]

    found = make(unvoiced, answers(20), SETTINGS).numbers

    assert {one.name for one in NUMBERS} - found.keys() == {"pitch_hz", "pitch_range"}


def test_reads_from_package(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    reference = make(rows(50), answers(20), SETTINGS)

    with pytest.raises(UserError, match="no training reference"):
        read(package.folder)
    (package.folder / FILE).write_text(text(reference))
    assert read(package.folder) == reference
    (package.folder / FILE).write_text("{}")
    with pytest.raises(UserError, match=r"reference\.json: damaged"):
        read(package.folder)
