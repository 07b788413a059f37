"""Run inputs that failed in use, from ../shared/cases or the program that CASES_MAKE names; skipped without them."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.emotion_server import emotion_server, records
from speech_emotion.audio.decode import AudioError, decode
from speech_emotion.cli import app
from speech_emotion.data.labels import read_labelled

MAKE = Path(os.environ.get("CASES_MAKE", Path(__file__).resolve().parents[2] / "shared" / "cases" / "make"))

pytestmark = pytest.mark.skipif(not MAKE.exists(), reason=f"{MAKE} does not exist")

CORPORA: dict[str, tuple[set[str], set[str]]] = {
    "ravdess_as_downloaded": ({"neutral", "happy", "angry"}, set()),
    "emotion_then_speaker": ({"ang", "hap"}, set()),
    "labels_of_any_script": ({"खुशी", "มีความสุข", unicodedata.normalize("NFC", "fröhlich")}, set()),
    "nfc_table_nfd_file": (set(), set()),
    "excel_sep_line": (set(), set()),
    "numeric_labels": ({"01", "02", "03"}, {"anna", "ben", "cleo"}),
    "two_sentences": ({"angry", "sad", "happy"}, {f"{number:02d}" for number in range(1, 9)}),
}
"""The labels and the speakers of each corpus; empty where any will do."""


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


def test_every_recording(cases: Path, expected: dict[str, dict], model: Path) -> None:
    audio = {name: case for name, case in expected.items() if name.startswith("audio/")}

    assert {name for name in expected if name.startswith("corpora/")} == {f"corpora/{name}" for name in CORPORA}
    wrong = {name: outcome(cases / name, case) for name, case in audio.items()}
    done = CliRunner().invoke(app, ["predict", str(cases / "audio"), "--model", str(model)])

    assert len(audio) >= 10
    assert {name: text for name, text in wrong.items() if text} == {}
    assert "antiphase_stereo.wav: is silent when mixed" in done.stderr
    answered = {f"audio/{Path(line.split(chr(9))[0]).name}" for line in done.stdout.splitlines()[1:]}
    assert answered == {name for name, case in audio.items() if case["must"] == "decode"}


def test_server_answers_every_recording(cases: Path, expected: dict[str, dict], model: Path, tmp_path: Path) -> None:
    audio = {name: case for name, case in expected.items() if name.startswith("audio/")}
    with emotion_server(tmp_path / "server", "--model", model) as server:
        workers = {worker.pid for worker in server.workers()}

        statuses = {name: server.ask(records((cases / name).read_bytes()))[0] for name in audio}

        assert {worker.pid for worker in server.workers()} == workers
    assert statuses == {name: 200 if case["must"] == "decode" else 400 for name, case in audio.items()}


@pytest.mark.parametrize("name", CORPORA)
def test_corpus(name: str, cases: Path) -> None:
    labels, speakers = CORPORA[name]

    found = read_labelled(cases / "corpora" / name)

    assert found.utterances
    assert all((found.root / one.path).is_file() for one in found.utterances)
    assert not labels or {one.emotion for one in found.utterances} == labels
    assert not speakers or {one.speaker for one in found.utterances} == speakers
