import csv
import io
from pathlib import Path

import pytest

from helpers.recordings import RATE, encoded, tone
from helpers.terminal import Command
from speech_emotion.inference.profile import Profile
from speech_emotion.inference.recognizer import Recognizer


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Recordings of two speakers and of one without a folder."""
    folder = tmp_path / "voices"
    for name, hertz in (("anna/sad/1", 300.0), ("anna/2", 310.0), ("ben/1", 120.0), ("other", 200.0)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.wav").write_bytes(encoded(tone(2.0, hertz=hertz)))
    return folder


def test_profile_of_a_folder(in_process: Command, enrolled_model: Path, voices: Path, tmp_path: Path) -> None:
    done = in_process("enroll", voices / "anna", "--output", "anna.json", "--model", enrolled_model)

    expected = Recognizer.load(enrolled_model).enroll([voices / "anna" / "2.wav", voices / "anna/sad/1.wav"])
    assert done.returncode == 0
    assert done.stdout == "anna.json: 4.0 s of speech from 2 recordings\n"
    assert Profile.load(tmp_path / "anna.json") == expected


def test_unusable_recordings(in_process: Command, model: Path, enrolled_model: Path, voices: Path) -> None:
    (voices / "ben" / "bad.wav").write_bytes(b"no audio")
    (voices / "empty").mkdir()

    def message(*arguments: object) -> str:
        done = in_process("enroll", *arguments, "--output", "p.json")
        assert (done.returncode, done.stdout) == (1, "")
        return str(done.stderr)

    bad = voices / "ben" / "bad.wav"
    assert message(voices / "ben", "-m", enrolled_model) == f"error: {bad}: is not audio that can be read\n"
    assert "holds no recordings" in message(voices / "empty", "-m", enrolled_model)
    assert "trained without speaker references" in message(voices / "anna", "-m", model)


OWNERS = {
    "speakers/anna.json": dict.fromkeys(("anna/sad/1", "anna/2", "ben/1", "other"), "anna"),
    "speakers": {"anna/sad/1": "anna", "anna/2": "anna", "ben/1": "ben"},
    "speakers/table.csv": {"anna/sad/1": "anna", "anna/2": "ben"},
}


@pytest.mark.parametrize("given", OWNERS)
def test_profiles(in_process: Command, enrolled_model: Path, voices: Path, tmp_path: Path, given: str) -> None:
    recognizer, folder, owners = Recognizer.load(enrolled_model), tmp_path / "speakers", OWNERS[given]
    for name, hertz in (("anna", 250.0), ("ben", 130.0)):
        recognizer.enroll([tone(9.0, hertz=hertz)], RATE).save(folder / f"{name}.json")
    rows = "../voices/anna/sad/1.wav,anna.json\n../voices/anna/2.wav,ben.json\n../voices/other.wav,\n"
    (folder / "table.csv").write_text(f"path,profile\n{rows}", encoding="utf-8-sig")
    option = "--profile" if given.endswith(".json") else "--profiles"

    done = in_process("predict", "voices", "-m", enrolled_model, "-f", "csv", option, given)

    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(found) == 4
    for row in found:
        owner = owners.get(str(Path(row["path"]).relative_to("voices").with_suffix("")))
        own = recognizer.with_profile(Profile.load(folder / f"{owner}.json")) if owner else recognizer
        assert float(row["confidence"]) == pytest.approx(own.predict(tmp_path / row["path"]).confidence, abs=1e-5)
    said = f"{len(owners)} of 4 recordings have a speaker profile\n"
    assert done.stderr == ("" if option == "--profile" else said)


def test_unusable_profiles(in_process: Command, enrolled_model: Path, voices: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    profile = Recognizer.load(enrolled_model).enroll([tone(9.0)], RATE)
    profile.model_copy(update={"spec_digest": "0" * 64}).save(Path("o"))
    tables = {"a.csv": "", "b.csv": "path,profile\nx.wav,p\nx.wav,p", "c.csv": "path,profile\nvoices/other.wav,o"}
    for name, content in {"bad.json": "{}", **tables}.items():
        (tmp_path / name).write_text(content)

    for option, path, message in (
        ("--profile", "bad.json", "bad.json: is not a speaker profile"),
        ("--profiles", "empty", "empty: has no speaker profiles"),
        ("--profiles", "nowhere", "nowhere: does not exist"),
        ("--profiles", "bad.json", "bad.json: is one profile"),
        ("--profiles", "a.csv", "a.csv: has no column 'path'"),
        ("--profiles", "b.csv", "b.csv: 3 mistakes:\n  line 2: x.wav: there is no such file\n"),
        ("--profiles", "c.csv", f"c.csv: {tmp_path}/voices/other.wav: the profile was made for another model"),
    ):
        done = in_process("predict", voices, option, path, "-m", enrolled_model)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {message}")
