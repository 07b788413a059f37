import json
from pathlib import Path

import numpy as np
import pytest

from helpers.recordings import encoded, tone
from helpers.terminal import Command
from helpers.tiny_package import LABELS
from speech_emotion.cli.evaluate import map_labels
from speech_emotion.core.errors import UserError
from speech_emotion.evaluation import metrics
from speech_emotion.inference.recognizer import Recognizer


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Recordings of two speakers, with a label that the model does not know and one under another name."""
    for speaker in ("anna", "ben"):
        for number, emotion in enumerate(("angry", "joy", "sad", "bored")):
            folder = tmp_path / "labelled" / speaker / emotion
            folder.mkdir(parents=True)
            for clip in range(2):
                pitch = 100 + 60 * number + 10 * clip + (100 if speaker == "anna" else 0)
                (folder / f"{clip}.wav").write_bytes(encoded(tone(0.5, hertz=pitch)))
    return tmp_path / "labelled"


def test_metrics_agree_with_the_pipeline(in_process: Command, model: Path, labelled: Path) -> None:
    arguments = ("--map", "joy=happy", "--leave-out", "bored", "--format", "json")

    done = in_process("evaluate", model, "--on", labelled, *arguments)

    recognizer = Recognizer.load(model)
    names = {"angry": "angry", "joy": "happy", "sad": "sad"}
    paths = [path for path in sorted(labelled.rglob("*.wav")) if path.parent.name in names]
    truth = np.array([LABELS.index(names[path.parent.name]) for path in paths])
    rows = np.array([list(recognizer.predict(path).probabilities.values()) for path in paths])
    expected = metrics.metrics(truth, rows, LABELS, bins=15)
    result = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert result.pop("labels") == list(LABELS)
    assert np.sum(result.pop("confusion")) == 12
    assert result.keys() == expected.keys()
    assert result["recall"] == pytest.approx(expected["recall"])
    assert result["utterances"] == 12
    for name in metrics.HEADLINES:
        assert result[name] == pytest.approx(expected[name], abs=1e-6)


def test_tables(in_process: Command, model: Path, labelled: Path) -> None:
    done = in_process("evaluate", model, "--on", labelled, "--map", "joy=happy", "--leave-out", "bored")

    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert {line[0] for line in lines if len(line) == 2} == {"metric", *metrics.HEADLINES, "utterances"}
    recalls = [["emotion", "recordings"], ["angry", "4"], ["happy", "4"], ["sad", "4"]]
    assert [line[:2] for line in lines if len(line) == 3] == recalls
    assert [line[0] for line in lines if len(line) == 4] == ["true \\ predicted", *LABELS]


def test_bad_recordings_are_listed(in_process: Command, model: Path, labelled: Path) -> None:
    bad = labelled / "ben" / "sad" / "0.wav"
    bad.write_bytes(b"RIFF")

    done = in_process("evaluate", model, "--on", labelled, "--map", "joy=happy", "--leave-out", "bored", "-f", "json")

    assert done.returncode == 1
    assert json.loads(done.stdout)["utterances"] == 11
    assert done.stderr == f"1 of 12 recordings could not be used:\n  {bad}: is not audio that can be read\n"


def test_unknown_label(in_process: Command, model: Path, labelled: Path) -> None:
    done = in_process("evaluate", model, "--on", labelled)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: the model does not know 'bored', 'joy'. It knows angry, happy, sad. "
        "Map each to one of these (--map bored=angry) or exclude it (--leave-out bored).\n"
    )


def test_usual_names() -> None:
    known = ("angry", "fear", "happy", "pleasant_surprise")

    found = {"Anger", "fearful", "happy", "pleasant surprise"}
    assert map_labels(found, known, [], []) == dict(zip(sorted(found), known, strict=True))
    assert map_labels({"ps", "anger"}, known, ["anger=fearful"], []) == {"ps": "pleasant_surprise", "anger": "fear"}
    for both in ({"fear", "fearful"}, {"surprise", "surprised"}):
        with pytest.raises(UserError, match="the model does not know"):
            map_labels(both, known, [], [])


def test_references(in_process: Command, enrolled_model: Path, labelled: Path) -> None:
    arguments = ("--on", labelled, "--map", "joy=happy", "--leave-out", "bored", "--enroll", "2")

    done = in_process("evaluate", enrolled_model, *arguments, "--format", "json")
    table = in_process("evaluate", enrolled_model, *arguments)

    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["utterances"] == 12
    enrolment = found["enrolment"]
    assert enrolment["references"] == 2
    assert enrolment["without"]["utterances"] == enrolment["with"]["utterances"] == 8
    assert enrolment["without"]["nll"] != enrolment["with"]["nll"]
    line = ["uar", *(f"{enrolment[name]['uar']:.4f}" for name in ("without", "with"))]
    assert line in [line.split("\t") for line in table.stdout.splitlines()]


def test_profiles(in_process: Command, enrolled_model: Path, labelled: Path, tmp_path: Path) -> None:
    arguments = ("--on", labelled, "--map", "joy=happy", "--leave-out", "bored", "--format", "json")
    in_process("enroll", labelled / "anna", "--model", enrolled_model, "--output", tmp_path / "anna.json")

    given = ((), ("--profiles", tmp_path))
    without, own = (in_process("evaluate", enrolled_model, *arguments, *profiles) for profiles in given)

    assert (own.returncode, own.stderr) == (0, "6 of 12 recordings have a speaker profile\n")
    assert json.loads(own.stdout)["nll"] != json.loads(without.stdout)["nll"]


def test_references_that_cannot_be_drawn(
    in_process: Command, model: Path, enrolled_model: Path, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "unknown" / "angry").mkdir(parents=True)
    (tmp_path / "unknown" / "angry" / "a.wav").write_bytes(encoded(tone()))
    mapped = ("--on", labelled, "--map", "joy=happy", "--leave-out", "bored", "--enroll")

    for arguments, message in (
        ((enrolled_model, *mapped, "6"), "anna: has 6 recordings; 6 references need at least 7"),
        ((enrolled_model, "--on", tmp_path / "unknown", "--enroll", "1"), "the speakers are unknown"),
        ((model, *mapped, "2"), "trained without speaker references"),
    ):
        done = in_process("evaluate", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr


@pytest.mark.parametrize(
    ("pairs", "left_out", "message"),
    [
        (["joy"], [], "--map joy: expected YOURS=MODEL'S, as in --map joy=happy."),
        (["joy=joyful"], [], "--map joy=joyful: the model has no label 'joyful'. It has happy, sad."),
        (["joy=happy"], ["joy"], "--leave-out joy: 'joy' is also mapped to 'happy'. Keep one of the two."),
        (["joy=happy", "joy=sad"], [], "--map joy=sad: 'joy' is already mapped to 'happy'. Keep one of the two."),
        (["joy=happy"], ["calm"], "no recording has the label 'calm'. Labels found: joy, sad."),
        ([], ["joy", "sad"], "every recording is left out."),
    ],
)
def test_impossible_mapping(pairs: list[str], left_out: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        map_labels({"joy", "sad"}, ("happy", "sad"), pairs, left_out)

    assert str(error.value) == message
