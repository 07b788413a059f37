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
from speech_emotion.core.io import digest_file, digest_folder
from speech_emotion.data.corpora import demo
from speech_emotion.data.corpora.demo import MANNERS, VOICES, WORDS, Clip, DemoCorpus, speak_clip

SETTINGS = CorpusSettings(name="demo", kind="demo", source="data/incoming")
LIBRARY = espeakng_loader.get_library_path()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "raw"
    DemoCorpus(SETTINGS).fetch(folder)
    return folder


def test_has_two_speakers_seven_emotions_and_twenty_words_all_combined(raw: Path) -> None:
    utterances = DemoCorpus(SETTINGS).utterances(raw)
    combinations = Counter((one.speaker, one.emotion, one.text) for one in utterances)
    assert len(combinations) == 2 * 7 * 20
    assert set(combinations.values()) == {1}
    assert {one.text for one in utterances} == {f"Say the word {word}" for word in WORDS}


def test_lists_exactly_what_lies_in_the_tree_ordered_by_path(raw: Path) -> None:
    listed = [one.path.as_posix() for one in DemoCorpus(SETTINGS).utterances(raw)]
    assert listed == sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())


def test_names_are_those_of_tess() -> None:
    assert Clip("SBF", "pleasant_surprise", "back").path == Path("SBF_pleasant_surprise/SBF_back_ps.wav")
    assert Clip("SAF", "angry", "dog").path == Path("SAF_angry/SAF_dog_angry.wav")


def test_clips_are_sixteen_bit_mono_wavs_that_neither_clip_nor_whisper(raw: Path) -> None:
    for path in raw.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("WAV", "PCM_16", 1, 22050)
        assert 0.4 < info.duration < 4.0
        assert 0.1 < np.abs(soundfile.read(path)[0]).max() < 0.999, path


def test_header_says_what_is_there(raw: Path) -> None:
    path = next(raw.rglob("*.wav"))
    assert struct.unpack("<I", path.read_bytes()[4:8])[0] == path.stat().st_size - 8


def test_same_bytes_in_another_order_alone_and_in_another_environment(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("ESPEAK_DATA_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    clips = list(DemoCorpus(SETTINGS).clips())[::-23]
    for number, clip in enumerate(clips):
        target = Path(f"{number}.wav")  # relative: eSpeak works in a folder of its own
        speak_clip(clip, target, LIBRARY)
        assert digest_file(target) == digest_file(raw / clip.path)


def test_same_bytes_on_one_core_as_on_all(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "core_count", lambda: 1)
    small = DemoCorpus(SETTINGS, words=WORDS[3:5])
    small.fetch(tmp_path / "raw")
    for one in small.utterances(tmp_path / "raw"):
        assert digest_file(tmp_path / "raw" / one.path) == digest_file(raw / one.path)


def test_speaks_wherever_it_is_installed(raw: Path, tmp_path: Path) -> None:
    # eSpeak NG keeps the path of its data in 160 bytes
    deep = tmp_path / ("ö" * 60) / ("a long name " * 10) / "espeakng_loader"
    shutil.copytree(Path(LIBRARY).parent, deep)
    clip = Clip("SBF", "happy", "dog")
    speak_clip(clip, tmp_path / "clip.wav", str(deep / Path(LIBRARY).name))
    assert digest_file(tmp_path / "clip.wav") == digest_file(raw / clip.path)


def test_each_emotion_has_its_own_rate_pitch_range_and_loudness() -> None:
    for what in ("rate", "pitch", "spread", "volume"):
        assert len({getattr(manner, what) for manner in MANNERS.values()}) == len(MANNERS)


def test_a_clip_is_spoken_a_little_unlike_its_manner_and_always_the_same_way() -> None:
    manner = MANNERS["neutral"]
    varied = [manner.varied(f"SBF_{word}_neutral") for word in WORDS]
    assert varied == [manner.varied(f"SBF_{word}_neutral") for word in WORDS]
    assert len(set(varied)) == len(WORDS)
    assert all(abs(one.rate - manner.rate) <= 0.05 * manner.rate + 1 for one in varied)


def test_emotions_are_heard_in_length_and_loudness_and_speakers_in_pitch(raw: Path) -> None:
    def heard(speaker: str, emotion: str) -> tuple[float, float]:
        sounds = [soundfile.read(path) for path in (raw / f"{speaker}_{emotion}").iterdir()]
        return float(np.mean([len(samples) / rate for samples, rate in sounds])), float(
            np.mean([np.sqrt(np.mean(samples**2)) for samples, _ in sounds])
        )

    for speaker in VOICES:
        seconds = {emotion: heard(speaker, emotion)[0] for emotion in MANNERS}
        loudness = {emotion: heard(speaker, emotion)[1] for emotion in MANNERS}
        assert max(seconds, key=seconds.__getitem__) == "sad"
        assert min(seconds, key=seconds.__getitem__) == "fear"
        assert min(loudness, key=loudness.__getitem__) == "sad"
    assert _pitch(raw / "SAF_neutral") * 1.05 < _pitch(raw / "SBF_neutral")


def test_a_linear_model_learns_it_from_a_few_statistics(raw: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from helpers.examples import featurize_settings
    from speech_emotion.audio.decode import load
    from speech_emotion.features.mfcc import Extractor

    extractor = Extractor(featurize_settings(n_mfcc=40))
    utterances = DemoCorpus(SETTINGS).utterances(raw)
    frames = [extractor(load(raw / one.path, 16000)) for one in utterances]
    statistics = np.array([np.r_[one.mean(0), one.std(0), np.diff(one, axis=0).std(0)] for one in frames])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    accuracy = cross_val_score(classifier, statistics, [one.emotion for one in utterances], cv=4)
    assert accuracy.mean() > 0.95


def test_an_engine_that_does_not_run_is_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_library", lambda: str(tmp_path / "libespeak-ng.so"))
    with pytest.raises(
        UserError, match=r"eSpeak NG does not run on this machine \(OSError: .*libespeak-ng.so"
    ) as error:
        DemoCorpus(SETTINGS).fetch(tmp_path / "raw")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_speaking_again_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "stray.wav").write_bytes(b"")
    small = DemoCorpus(SETTINGS, words=WORDS[:1])
    small.fetch(tmp_path / "raw")
    first = digest_folder(tmp_path / "raw")
    small.fetch(tmp_path / "raw")
    assert digest_folder(tmp_path / "raw") == first
    assert len(list((tmp_path / "raw").rglob("*.wav"))) == 14


def _pitch(folder: Path) -> float:
    """Return the median pitch of a folder's clips in Hz, by autocorrelation of their loudest stretch."""
    found = []
    for path in sorted(folder.iterdir()):
        samples, rate = soundfile.read(path)
        loudest = int(np.argmax(np.convolve(samples**2, np.ones(1024), "valid")))
        window = samples[loudest : loudest + 1024]
        likeness = np.correlate(window, window, "full")[1023:]
        shortest, longest = rate // 400, rate // 70
        found.append(rate / (shortest + int(np.argmax(likeness[shortest:longest]))))
    return float(np.median(found))
