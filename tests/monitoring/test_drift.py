"""Detect drift of synthetic recordings, and of TESS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from helpers.tiny_package import make_package
from helpers.voices import RATE, logged, sounds, telephone, voices
from speech_emotion.audio.decode import Sound, decode
from speech_emotion.config.monitoring import LeastSettings, MonitorSettings, ReferenceDataSettings
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.drift import Drift, columns, compare
from speech_emotion.monitoring.prediction_log import Entry, table
from speech_emotion.monitoring.reference import Reference, make
from speech_emotion.registry.model_resolution import PRETRAINED

COUNT = 120


@dataclass(frozen=True)
class Data:
    recognizer: Recognizer
    reference: Reference
    same: list[Entry]
    """Other recordings of the reference's distribution."""

    def log(self, recorded: Sequence[Sound]) -> list[Entry]:
        return logged(self.recognizer, list(recorded))

    def compare(self, entries: Sequence[Entry]) -> Drift:
        return compare(columns(table(entries), self.recognizer.package.digest), self.reference, MonitorSettings())

    def drifted(self, entries: Sequence[Entry]) -> set[str]:
        return drifted(self.compare(entries))


def drifted(drift: Drift) -> set[str]:
    return {one.measure.title for one in drift.having("drifted")}


def make_data(recognizer: Recognizer, known: list[Sound], same: list[Sound]) -> Data:
    rows = logged(recognizer, known)
    return Data(recognizer, make(rows, rows, ReferenceDataSettings(seed=7, halvings=50)), logged(recognizer, same))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    recognizer = Recognizer(make_package(tmp_path_factory.mktemp("drift") / "package"))
    return make_data(recognizer, sounds(voices(300, seed=1)), sounds(voices(400, seed=2)))


def assert_no_drift(data: Data) -> None:
    rng = np.random.default_rng(3)
    draws = [rng.choice(len(data.same), COUNT, replace=False) for _ in range(20)]

    assert [data.drifted([data.same[place] for place in draw]) for draw in draws] == [set()] * 20


def test_training_distribution_has_no_drift(data: Data) -> None:
    assert_no_drift(data)


@pytest.mark.slow
def test_speakers_of_tess(tess_dir: Path) -> None:
    rng = np.random.default_rng(7)
    older, younger = (
        [decode(path) for path in rng.permutation(sorted(tess_dir.rglob(f"{start}*.wav")))[:600]]
        for start in ("OA", "YAF")
    )
    data = make_data(Recognizer.load(PRETRAINED), older[:300], older[300:])

    assert_no_drift(data)
    found = data.drifted(data.log(younger[:COUNT]))
    assert {"pitch", "spectral centroid"} <= found
    assert not {"sample rate", "channels"} & found


def louder(voice: np.ndarray) -> np.ndarray:
    return voice * np.float32(10 ** (12 / 20))


@pytest.mark.parametrize(
    ("pitch", "change", "rate", "expected", "spared"),
    [
        (120.0, np.copy, RATE, {"pitch"}, {"level", "sample rate", "duration", "noise floor"}),
        (200.0, lambda voice: telephone(voice, RATE), 8000, {"bandwidth", "sample rate"}, {"pitch", "channels"}),
        (200.0, louder, RATE, {"level", "peak", "noise floor"}, {"pitch", "bandwidth", "duration", "sample rate"}),
        (200.0, lambda voice: np.stack([voice] * 2, axis=1), RATE, {"channels"}, {"level", "pitch", "sample rate"}),
    ],
    ids=["another speaker", "telephone", "louder", "stereo"],
)
def test_names_what_changed(
    data: Data,
    pitch: float,
    change: Callable[[np.ndarray], np.ndarray],
    rate: int,
    expected: set[str],
    spared: set[str],
) -> None:
    changed = [change(voice) for voice in voices(COUNT, seed=4, pitch=pitch)]

    found = data.drifted(data.log(sounds(changed, rate)))

    assert expected <= found
    assert not spared & found


def test_answers_of_other_packages_are_ignored(data: Data) -> None:
    sad = [{**row, "label": "sad", "confidence": 0.4} for row in data.same[:COUNT]]
    others = [{**row, "package_digest": "of another"} for row in sad]

    mixed = data.compare([*data.same[:COUNT], *others])

    assert {"predicted shares", "confidence"} <= data.drifted(sad)
    assert drifted(mixed) == set()
    assert (mixed.recordings, mixed.answers) == (2 * COUNT, COUNT)


def test_too_few_rows(data: Data) -> None:
    drift = data.compare([{**row, "level_dbfs": 0.0} for row in data.same[:50]])

    assert {one.verdict for one in drift.findings} == {"too few rows"}
    assert len(drift.findings) == len(data.reference.numbers) + len(data.reference.classes)
    assert data.drifted([]) == set()


def test_small_difference_is_no_drift(data: Data) -> None:
    rows = [{**row, "level_dbfs": row["level_dbfs"] + 2.0} for row in data.same] * 25
    period = columns(table(rows), data.recognizer.package.digest)
    least = MonitorSettings(least=LeastSettings(level_dbfs=4.0))
    wide = data.reference.numbers["level_dbfs"].model_copy(update={"halves": 4.0})
    uneven = data.reference.model_copy(update={"numbers": {**data.reference.numbers, "level_dbfs": wide}})

    found = [
        next(one for one in drift.findings if one.measure.title == "level")
        for drift in (
            compare(period, data.reference, MonitorSettings()),
            compare(period, data.reference, least),
            compare(period, uneven, MonitorSettings()),
        )
    ]

    assert found[0].p < 1e-4
    assert [one.p for one in found] == [found[0].p] * 3
    assert [one.verdict for one in found] == ["drifted", "no drift", "no drift"]
    assert [one.limit for one in found[1:]] == [4.0, 4.0]
