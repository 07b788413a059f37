"""Detect drift of TESS recordings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.voices import logged
from speech_emotion.audio.decode import decode
from speech_emotion.config.base import read_section
from speech_emotion.config.monitoring import MonitorSettings, SurveySettings
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.drift import Drift, Verdict, columns, compare
from speech_emotion.monitoring.prediction_log import Entry, table
from speech_emotion.monitoring.reference import Reference, make
from speech_emotion.registry.model_resolution import PRETRAINED

pytestmark = pytest.mark.slow

KNOWN = 300
"""Recordings of the reference."""

DRAWN = 100
"""Recordings of a period."""

ROOT = Path(__file__).resolve().parents[2]
MONITOR = read_section("monitor", MonitorSettings, ROOT / "params.yaml")
SURVEY = read_section("survey", SurveySettings, ROOT / "params.yaml")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load(PRETRAINED)


@pytest.fixture(scope="module")
def recordings(tess_dir: Path) -> list[Path]:
    """Six hundred recordings in random order."""
    paths = sorted(path for path in tess_dir.rglob("*.wav"))
    return [paths[place] for place in np.random.default_rng(7).permutation(len(paths))[:600]]


@pytest.fixture(scope="module")
def entries(recordings: Sequence[Path], recognizer: Recognizer) -> list[Entry]:
    return logged(recognizer, [decode(path) for path in recordings])


@pytest.fixture(scope="module")
def reference(entries: Sequence[Entry]) -> Reference:
    return make(entries[:KNOWN], entries[:KNOWN], SURVEY)


def compared(entries: Sequence[Entry], reference: Reference, recognizer: Recognizer) -> Drift:
    return compare(columns(table(entries), recognizer.package.digest), reference, MONITOR)


def drifted(drift: Drift) -> set[str]:
    return {one.measure.title for one in drift.having(Verdict.drifted)}


def test_training_distribution_has_no_drift(entries: list[Entry], reference: Reference, recognizer: Recognizer) -> None:
    rng = np.random.default_rng(20)
    draws = [KNOWN + rng.choice(len(entries) - KNOWN, 2 * DRAWN, replace=False) for _ in range(20)]

    found = [drifted(compared([entries[place] for place in draw], reference, recognizer)) for draw in draws]

    assert found == [set()] * 20


def test_other_speaker_drifts(recordings: list[Path], entries: list[Entry], recognizer: Recognizer) -> None:
    older, younger = (
        [row for path, row in zip(recordings, entries, strict=True) if path.name.startswith(start)]
        for start in ("OA", "YAF")
    )

    found = drifted(compared(younger[:DRAWN], make(older, older, SURVEY), recognizer))

    assert {"pitch", "spectral centroid"} <= found
    assert not {"sample rate", "channels"} & found
