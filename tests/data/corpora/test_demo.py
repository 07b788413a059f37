import shutil
import struct
from collections import Counter
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest
import soundfile

from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file
from speech_emotion.data.corpora import demo
from speech_emotion.data.corpora.demo import WORDS, Clip, DemoCorpus, speak_clip

SETTINGS = CorpusSettings(name="demo", kind="demo", source="data/incoming")
LIBRARY = espeakng_loader.get_library_path()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "raw"
    DemoCorpus(SETTINGS).fetch(folder)
    return folder


def test_every_combination_once(raw: Path) -> None:
    utterances = DemoCorpus(SETTINGS).utterances(raw)
    combinations = Counter((one.speaker, one.emotion, one.text) for one in utterances)
    assert len(combinations) == 2 * 7 * 20
    assert set(combinations.values()) == {1}
    assert {one.text for one in utterances} == {f"Say the word {word}" for word in WORDS}
    listed = [one.path.as_posix() for one in utterances]
    assert listed == sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())
    assert "SBF_pleasant_surprise/SBF_back_ps.wav" in listed


def test_clips_are_usable(raw: Path) -> None:
    for path in raw.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("WAV", "PCM_16", 1, 22050)
        assert 0.4 < info.duration < 4.0
        assert 0.1 < np.abs(soundfile.read(path)[0]).max() < 0.999, path
        assert struct.unpack("<I", path.read_bytes()[4:8])[0] == path.stat().st_size - 8


def test_bytes_depend_on_nothing_else(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("ESPEAK_DATA_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    clips = list(DemoCorpus(SETTINGS).clips())[::-23]
    for number, clip in enumerate(clips):
        target = Path(f"{number}.wav")  # relative: eSpeak works in a folder of its own
        speak_clip(clip, target, LIBRARY)
        assert digest_file(target) == digest_file(raw / clip.path)


def test_long_path_of_the_library(raw: Path, tmp_path: Path) -> None:
    # eSpeak NG keeps the path of its data in 160 bytes
    deep = tmp_path / ("ö" * 60) / ("a long name " * 10) / "espeakng_loader"
    shutil.copytree(Path(LIBRARY).parent, deep)
    clip = Clip("SBF", "happy", "dog")
    speak_clip(clip, tmp_path / "clip.wav", str(deep / Path(LIBRARY).name))
    assert digest_file(tmp_path / "clip.wav") == digest_file(raw / clip.path)


def test_broken_library_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_library", lambda: str(tmp_path / "libespeak-ng.so"))
    with pytest.raises(
        UserError, match=r"eSpeak NG does not run on this machine \(OSError: .*libespeak-ng.so"
    ) as error:
        DemoCorpus(SETTINGS).fetch(tmp_path / "raw")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
