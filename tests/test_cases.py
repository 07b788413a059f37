"""Run the cases of ../shared/cases, inputs that failed in use; skipped where that folder does not exist.

`CASES_MAKE` names the program that writes them, if it lies elsewhere.
"""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from helpers.emotion_server import emotion_server, records
from helpers.tiny_package import LABELS, make_package
from speech_emotion.audio.decode import AudioError, decode
from speech_emotion.core.errors import UserError
from speech_emotion.core.tables import read_table
from speech_emotion.data.labels import read_labelled

MAKE = Path(os.environ.get("CASES_MAKE", Path(__file__).resolve().parents[2] / "shared" / "cases" / "make"))

pytestmark = pytest.mark.skipif(not MAKE.exists(), reason=f"{MAKE} does not exist")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, MAKE, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def expected(cases: Path) -> dict[str, dict]:
    return json.loads((cases / "expected.json").read_text(encoding="utf-8"))


def outcome(path: Path, case: dict) -> str:
    """Return what is wrong with the decoding of a recording, or an empty text."""
    try:
        seconds = decode(path).seconds
    except AudioError as error:
        return "" if case["must"] == "refuse" else str(error)
    wrong = case["must"] != "decode" or abs(seconds - case["seconds"]) > 0.05
    return f"{seconds:.3f} s" if wrong else ""


def test_every_recording(cases: Path, expected: dict[str, dict]) -> None:
    audio = {name: case for name, case in expected.items() if name.startswith("audio/")}

    wrong = {name: outcome(cases / name, case) for name, case in audio.items()}

    assert len(audio) >= 10
    assert {name: text for name, text in wrong.items() if text} == {}


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "speech_emotion", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_folder_of_recordings(cases: Path, expected: dict[str, dict], tmp_path: Path) -> None:
    package = make_package(tmp_path / "package").folder
    folder = tmp_path / "audio"
    folder.mkdir()
    for path in (cases / "audio").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    good = {name for name, case in expected.items() if case["must"] == "decode"}
    rows = [f"{name.removeprefix('audio/')},{LABELS[0]},anna" for name in sorted(expected) if name.startswith("audio/")]
    (folder / "labels.csv").write_text("path,emotion,speaker\n" + "\n".join(rows) + "\n")

    done = [
        call("predict", folder, "--model", package, "--output", tmp_path / "out.csv"),
        call("predict", folder, "--model", package),
        call("evaluate", package, "--on", folder),
    ]

    assert [one.returncode for one in done] == [1, 1, 1], [one.stderr for one in done]
    assert ["antiphase_stereo.wav: is silent when mixed" in one.stderr for one in done] == 3 * [True], done
    assert not any("Traceback" in one.stdout + one.stderr for one in done)
    answered = {f"audio/{Path(row['path']).name}" for row in read_table(tmp_path / "out.csv").to_dict("records")}
    assert answered == good
    assert all(name.removeprefix("audio/") in done[1].stdout for name in good)


def test_server_answers_every_recording(cases: Path, expected: dict[str, dict], tmp_path: Path) -> None:
    package = make_package(tmp_path / "package").folder
    audio = {name: case for name, case in expected.items() if name.startswith("audio/")}
    with emotion_server(tmp_path / "server", "--model", package) as server:
        workers = {worker.pid for worker in server.workers()}

        statuses = {name: server.ask(records((cases / name).read_bytes()))[0] for name in audio}

        assert {worker.pid for worker in server.workers()} == workers
    assert statuses == {name: 200 if case["must"] == "decode" else 400 for name, case in audio.items()}


@pytest.mark.parametrize(
    ("name", "word", "labels"),
    [
        ("ravdess_as_downloaded", "RAVDESS", {"neutral", "happy", "angry"}),
        ("emotion_then_speaker", "emotion", {"ang", "hap"}),
    ],
)
def test_layout_is_understood_or_refused(name: str, word: str, labels: set[str], cases: Path) -> None:
    try:
        found = {one.emotion for one in read_labelled(cases / "corpora" / name).utterances}
    except UserError as error:
        found = labels if word in str(error) else {str(error)}

    assert found == labels


def test_labels_of_any_script(cases: Path) -> None:
    labelled = read_labelled(cases / "corpora" / "labels_of_any_script")

    labels = {one.emotion for one in labelled.utterances}
    assert labels == {"खुशी", "มีความสุข", unicodedata.normalize("NFC", "fröhlich")}


@pytest.mark.parametrize(("name", "count"), [("nfc_table_nfd_file", 1), ("excel_sep_line", 2)])
def test_table_is_read(name: str, count: int, cases: Path) -> None:
    labelled = read_labelled(cases / "corpora" / name)

    assert len(labelled.utterances) == count
    assert all((labelled.root / one.path).is_file() for one in labelled.utterances)


@pytest.mark.parametrize(
    ("name", "labels", "speakers"),
    [
        ("numeric_labels", {"01", "02", "03"}, {"anna", "ben", "cleo"}),
        ("two_sentences", {"angry", "sad", "happy"}, {f"{number:02d}" for number in range(1, 9)}),
    ],
)
def test_labels_and_speakers_stay_text(name: str, labels: set[str], speakers: set[str], cases: Path) -> None:
    labelled = read_labelled(cases / "corpora" / name)

    assert {one.emotion for one in labelled.utterances} == labels
    assert {one.speaker for one in labelled.utterances} == speakers


def test_every_case_has_a_test(expected: dict[str, dict]) -> None:
    content = Path(__file__).read_text(encoding="utf-8")

    corpora = [Path(name).name for name in expected if name.startswith("corpora/")]
    assert [name for name in corpora if f'"{name}"' not in content] == []
