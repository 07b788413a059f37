"""What moves is named, and the training distribution itself moves nothing: on synthetic voices, in seconds."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from helpers.robustness_conditions import telephone
from helpers.tiny_package import make_package
from helpers.voices import RATE, logged, sounds, voices
from speech_emotion.config.monitoring import DEFAULT, SurveySettings
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.monitoring.drift import Drift, Verdict, compare, samples
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
    """Other recordings of the same distribution."""
    return logged(recognizer, sounds(voices(400, seed=2)))


def held(entries: Sequence[Entry], reference: Reference, recognizer: Recognizer) -> Drift:
    return compare(samples(table(entries), recognizer.package.digest), reference, DEFAULT)


def moved(drift: Drift) -> list[str]:
    return [one.measure.title for one in drift.moved]


def test_the_training_distribution_raises_nothing(
    recognizer: Recognizer, reference: Reference, same: list[Entry]
) -> None:
    rng = np.random.default_rng(3)
    draws = [rng.choice(len(same), COUNT, replace=False) for _ in range(20)]

    raised = [moved(held([same[place] for place in draw], reference, recognizer)) for draw in draws]

    assert raised == [[]] * 20


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
"""What is done, the rate that it gives, what must be named, and what must not."""


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_what_is_named(name: str, recognizer: Recognizer, reference: Reference) -> None:
    change, rate, expected, spared = CHANGES[name]

    found = set(moved(held(_changed(recognizer, change, rate), reference, recognizer)))

    assert expected <= found
    assert not spared & found


def test_a_gain_is_told_in_decibels_with_its_interval(recognizer: Recognizer, reference: Reference) -> None:
    drift = held(_changed(recognizer, lambda voice: voice * np.float32(10 ** (12 / 20)), RATE), reference, recognizer)

    [level] = [one for one in drift.moved if one.measure.title == "level"]
    assert level.change == pytest.approx(12, abs=1.5)
    assert level.low < 12 < level.high
    assert level.distance == pytest.approx(12, abs=1)
    assert level.p < 1e-6


def test_another_voice_is_named_by_its_pitch(recognizer: Recognizer, reference: Reference) -> None:
    drift = held(logged(recognizer, sounds(voices(COUNT, seed=5, pitch=120.0))), reference, recognizer)

    assert "pitch" in moved(drift)
    assert not {"level", "sample rate", "duration", "noise floor"} & set(moved(drift))


def test_what_is_said_is_compared_with_the_answers_of_the_same_package_alone(
    recognizer: Recognizer, reference: Reference, same: list[Entry]
) -> None:
    sad = [{**row, "label": "sad", "confidence": 0.4} for row in same[:COUNT]]
    others = [{**row, "package_digest": "of another"} for row in sad]

    own, mixed = held(sad, reference, recognizer), held([*same[:COUNT], *others], reference, recognizer)

    assert {"predicted shares", "confidence"} <= set(moved(own))
    assert moved(mixed) == []
    assert (mixed.recordings, mixed.answers) == (2 * COUNT, COUNT)


def test_too_few_rows_are_said(recognizer: Recognizer, reference: Reference, same: list[Entry]) -> None:
    drift = held([{**row, "level_dbfs": 0.0} for row in same[:50]], reference, recognizer)

    assert {one.verdict for one in drift.findings} == {Verdict.too_few}
    assert len(drift.too_few) == len(reference.numbers) + len(reference.classes)
    assert moved(held([], reference, recognizer)) == []


def test_in_a_large_log_what_is_certain_but_small_is_not_news(
    recognizer: Recognizer, reference: Reference, same: list[Entry]
) -> None:
    louder = [{**row, "level_dbfs": row["level_dbfs"] + 2.0} for row in same] * 25
    patient = DEFAULT.model_copy(update={"least": DEFAULT.least.model_copy(update={"level_dbfs": 4.0})})
    found = samples(table(louder), recognizer.package.digest)

    strict, lenient = (
        next(one for one in compare(found, reference, settings).findings if one.measure.title == "level")
        for settings in (DEFAULT, patient)
    )

    assert strict.p == lenient.p < 1e-4
    assert (strict.verdict, lenient.verdict) == (Verdict.moved, Verdict.steady)
    assert lenient.limit == 4.0 > reference.numbers["level_dbfs"].halves


def test_what_two_halves_of_the_training_data_differ_by_is_not_news(
    recognizer: Recognizer, reference: Reference, same: list[Entry]
) -> None:
    louder = samples(table([{**row, "level_dbfs": row["level_dbfs"] + 2.0} for row in same]), recognizer.package.digest)
    wide = reference.numbers["level_dbfs"].model_copy(update={"halves": 3.0})
    uneven = reference.model_copy(update={"numbers": {**reference.numbers, "level_dbfs": wide}})

    assert moved(compare(louder, reference, DEFAULT)) == ["level"]
    assert moved(compare(louder, uneven, DEFAULT)) == []


def test_equal_logs_give_equal_findings(recognizer: Recognizer, reference: Reference, same: list[Entry]) -> None:
    assert held(same, reference, recognizer) == held(same, reference, recognizer)


def _changed(recognizer: Recognizer, change: Callable[[np.ndarray], np.ndarray], rate: int) -> list[Entry]:
    return logged(recognizer, sounds([change(voice) for voice in voices(COUNT, seed=4)], rate))
