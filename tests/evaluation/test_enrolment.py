from pathlib import Path

import numpy as np
import pytest

from helpers.recordings import encoded, tone
from helpers.tiny_package import ENROLLED, LABELS, make_package
from speech_emotion.evaluation import enrolment
from speech_emotion.evaluation.enrolment import Recordings, compare
from speech_emotion.evaluation.metrics import metrics
from speech_emotion.inference.recognizer import Recognizer


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return Recognizer(make_package(tmp_path / "package", enrolled=ENROLLED))


def speaker(folder: Path, name: str, labels: list[str]) -> Recordings:
    paths = [folder / f"{name}{number}.wav" for number in range(len(labels))]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(tone(hertz=100.0 + 30 * number)))
    return Recordings(name, paths, labels)


def test_references_are_neutral_and_not_scored(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "NEUTRAL", "sad")
    own = speaker(tmp_path, "anna", ["sad", "angry", "happy", "sad"])

    without, enrolled = compare(recognizer, [own], references=2, bins=15)

    scored, references = own.paths[1:3], [own.paths[0], own.paths[3]]
    truth = np.array([LABELS.index(label) for label in own.labels[1:3]])
    for found, voice in (
        (without, recognizer),
        (enrolled, recognizer.with_profile(recognizer.enroll(references))),
    ):
        rows = np.array([list(voice.predict(path).probabilities.values()) for path in scored])
        expected = metrics(truth, rows, LABELS, bins=15)
        assert found["recall"] == expected.pop("recall")
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_draws_are_repeatable(recognizer: Recognizer, tmp_path: Path) -> None:
    speakers = [speaker(tmp_path, name, [*LABELS, *LABELS]) for name in ("anna", "ben")]

    first, second = (compare(recognizer, speakers, references=3, bins=15) for _ in range(2))

    assert first == second
    assert first[0]["utterances"] == 6
    assert first[0] != first[1]
