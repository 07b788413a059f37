"""Detect drift of synthetic recordings."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from helpers.robustness_conditions import telephone
from helpers.tiny_package import make_package
from helpers.voices import RATE, logged, sounds, voices
from speech_emotion.config.monitoring import DEFAULT, SurveySettings
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.drift import Drift, Verdict, columns, compare
from speech_emotion.monitoring.prediction_log import Entry, table
from speech_emotion.monitoring.reference import Reference, make

COUNT = 120


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return Recognizer(make_package(tmp_path_factory.mktemp("drift") / "package"))


@pytest.fixture(scope="module")
def reference(recognizer: Recognizer) -> Reference:
    known = logged(recognizer, sounds(voices(300, seed=1)))
    return make(known, known, SurveySettings(seed=7, halvings=50))


@pytest.fixture(scope="module")
def same(recognizer: Recognizer) -> list[Entry]:
    return logged(recognizer, sounds(voices(400, seed=2)))


def compared(entries: Sequence[Entry], reference: Reference, recognizer: Recognizer) -> Drift:
    return compare(columns(table(entries), recognizer.package.digest), reference, DEFAULT)


def drifted(drift: Drift) -> list[str]:
    return [one.measure.title for one in drift.having(Verdict.drifted)]


def test_training_distribution_has_no_drift(recognizer: Recognizer, reference: Reference, same: list[Entry]) -> None:
    rng = np.random.default_rng(3)
    draws = [rng.choice(len(same), COUNT, replace=False) for _ in range(20)]

    found = [drifted(compared([same[place] for place in draw], reference, recognizer)) for draw in draws]

    assert found == [[]] * 20


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, set[str], set[str]]] = {
    "telephone": (lambda voice: telephone(voice, RATE), 8000, {"bandwidth", "sample rate"}, {"pitch", "channels"}),
    "12 dB louder": (
        lambda voice: voice * np.float32(10 ** (12 / 20)),
        RATE,
        {"level", "peak", "noise floor"},
        {"pitch", "bandwidth", "duration", "sample rate"},
    ),
    "stereo": (lambda voice: np.stack([voice, voice], axis=1), RATE, {"channels"}, {"level", "pitch", "sample rate"}),
}
"""Change, resulting sample rate, measures that must drift, measures that must not."""


@pytest.mark.parametrize("name", CHANGES)
def test_names_what_changed(name: str, recognizer: Recognizer, reference: Reference) -> None:
    change, rate, expected, spared = CHANGES[name]

    found = set(drifted(compared(_changed(recognizer, change, rate), reference, recognizer)))

    assert expected <= found
    assert not spared & found


def test_gain_in_decibels(recognizer: Recognizer, reference: Reference) -> None:
    drift = compared(
        _changed(recognizer, lambda voice: voice * np.float32(10 ** (12 / 20)), RATE), reference, recognizer
    )

    [level] = [one for one in drift.having(Verdict.drifted) if one.measure.title == "level"]
    assert level.change == pytest.approx(12, abs=1.5)
    assert level.low < 12 < level.high
    assert level.distance == pytest.approx(12, abs=1)
    assert level.p < 1e-6


def test_other_speaker_has_another_pitch(recognizer: Recognizer, reference: Reference) -> None:
    drift = compared(logged(recognizer, sounds(voices(COUNT, seed=5, pitch=120.0))), reference, recognizer)

    assert "pitch" in drifted(drift)
    assert not {"level", "sample rate", "duration", "noise floor"} & set(drifted(drift))


def test_answers_of_other_packages_are_ignored(recognizer: Recognizer, reference: Reference, same: list[Entry]) -> None:
    sad = [{**row, "label": "sad", "confidence": 0.4} for row in same[:COUNT]]
    others = [{**row, "package_digest": "of another"} for row in sad]

    own, mixed = compared(sad, reference, recognizer), compared([*same[:COUNT], *others], reference, recognizer)

    assert {"predicted shares", "confidence"} <= set(drifted(own))
    assert drifted(mixed) == []
    assert (mixed.recordings, mixed.answers) == (2 * COUNT, COUNT)


def test_too_few_rows(recognizer: Recognizer, reference: Reference, same: list[Entry]) -> None:
    drift = compared([{**row, "level_dbfs": 0.0} for row in same[:50]], reference, recognizer)

    assert {one.verdict for one in drift.findings} == {Verdict.too_few}
    assert len(drift.having(Verdict.too_few)) == len(reference.numbers) + len(reference.classes)
    assert drifted(compared([], reference, recognizer)) == []


def test_small_difference_is_no_drift(recognizer: Recognizer, reference: Reference, same: list[Entry]) -> None:
    louder = [{**row, "level_dbfs": row["level_dbfs"] + 2.0} for row in same] * 25
    patient = DEFAULT.model_copy(update={"least": DEFAULT.least.model_copy(update={"level_dbfs": 4.0})})
    found = columns(table(louder), recognizer.package.digest)

    strict, lenient = (
        next(one for one in compare(found, reference, settings).findings if one.measure.title == "level")
        for settings in (DEFAULT, patient)
    )

    assert strict.p == lenient.p < 1e-4
    assert (strict.verdict, lenient.verdict) == (Verdict.drifted, Verdict.steady)
    assert lenient.limit == 4.0 > reference.numbers["level_dbfs"].halves


def test_difference_of_halves_is_no_drift(recognizer: Recognizer, reference: Reference, same: list[Entry]) -> None:
    louder = columns(table([{**row, "level_dbfs": row["level_dbfs"] + 2.0} for row in same]), recognizer.package.digest)
    wide = reference.numbers["level_dbfs"].model_copy(update={"halves": 3.0})
    uneven = reference.model_copy(update={"numbers": {**reference.numbers, "level_dbfs": wide}})

    assert drifted(compare(louder, reference, DEFAULT)) == ["level"]
    assert drifted(compare(louder, uneven, DEFAULT)) == []


def _changed(recognizer: Recognizer, change: Callable[[np.ndarray], np.ndarray], rate: int) -> list[Entry]:
    return logged(recognizer, sounds([change(voice) for voice in voices(COUNT, seed=4)], rate))
