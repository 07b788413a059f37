from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.files import fill
from helpers.recordings import encoded, tone
from speech_emotion.config.data import CorpusSettings, PrepareSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file
from speech_emotion.data.corpora import open_corpus
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.manifest import BAD_RECORDINGS, MANIFEST, Manifest, check, write
from speech_emotion.data.recording_checks import build

SETTINGS = PrepareSettings(bad_recordings="stop", min_seconds=0.2, max_seconds=10.0, silence_dbfs=-60.0)


class Listed:
    """A corpus that is a list."""

    kind = "folder"

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self.listed = list(utterances)

    def fetch(self, raw: Path) -> None:
        raise NotImplementedError

    def utterances(self, raw: Path) -> list[Utterance]:
        return self.listed


def filled(folder: Path, files: dict[str, bytes]) -> Listed:
    """Write files into a folder and return the corpus of them, with two labels in turn."""
    fill(folder, files)
    return Listed([Utterance(Path(name), "S", ("sad", "joy")[index % 2]) for index, name in enumerate(files)])


def built(folder: Path, files: dict[str, bytes]) -> Manifest:
    return build(filled(folder, files), folder, settings=SETTINGS, workers=1)


def test_measures_a_recording(tmp_path: Path) -> None:
    stereo = np.stack([np.full(8000, 0.5, np.float32), np.zeros(8000, np.float32)], axis=1)
    row = built(tmp_path, {"a.wav": encoded(stereo, coding="FLOAT")}).good.iloc[0]
    assert (row["sample_rate"], row["channels"], row["seconds"]) == (16000, 2, 0.5)
    assert row["peak_dbfs"] == pytest.approx(20 * np.log10(0.5), abs=1e-6)
    assert row["rms_dbfs"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=1e-6)
    assert row["sha256"] == digest_file(tmp_path / "a.wav")


def test_labels_are_renamed_or_left_out(tmp_path: Path) -> None:
    files = {name: encoded(tone(1.0, hertz=hertz)) for name, hertz in (("a.wav", 100), ("b.wav", 200))}
    corpus = filled(tmp_path, files)
    found = build(corpus, tmp_path, settings=SETTINGS, labels={"joy": "happy", "sad": None}, workers=1).good
    assert list(found["emotion"]) == ["happy"]
    with pytest.raises(UserError, match=r"no recording is labelled 'calm'\. Labels: joy, sad\."):
        build(corpus, tmp_path, settings=SETTINGS, labels={"calm": None}, workers=1)


@pytest.mark.parametrize(
    ("mine", "labels", "expected"),
    [
        (("Surprised", "fea"), {}, {"surprise", "fear"}),
        (("Surprised", "joy"), {"surprise": "startled"}, {"startled", "fear", "Surprised", "joy"}),
        (("surprised", "ps"), {}, {"surprise", "fear", "surprised", "ps"}),
        (("Fear", "ps"), {"surprise": "Tired"}, {"Tired", "fear", "ps"}),
        (("pleasant surprise", "tired"), {"fear": "Tired"}, {"surprise", "tired"}),
    ],
)
def test_usual_names(tmp_path: Path, mine: Sequence[str], labels: dict[str, str], expected: set[str]) -> None:
    pairs = [("ravdess", "surprise"), ("ravdess", "fear"), *(("mine", label) for label in mine)]
    files = {f"{corpus}/{label}.wav": encoded(tone(1.0, hertz=100 + n)) for n, (corpus, label) in enumerate(pairs)}
    fill(tmp_path, files)
    listed = Listed([Utterance(Path(f"{corpus}/{label}.wav"), "S", label, corpus=corpus) for corpus, label in pairs])
    found = build(listed, tmp_path, settings=SETTINGS, labels=labels, workers=1).good
    assert set(found["emotion"]) == expected


REFUSED = {
    "empty": (b"", "is empty (0 bytes)"),
    "longer than allowed": (encoded(tone(11.0)), "is longer than 10 s"),
    "cut off": (encoded(tone())[:16_022], "is cut off: 0.50 s of 1.00 s"),
    "silent": (encoded(np.zeros(8000, np.float32)), "is silent: its peak of -inf dBFS is below -60 dBFS"),
    "hiss": (encoded(np.full(8000, 0.0009), coding="FLOAT"), "is silent: its peak of -60.9 dBFS is below -60 dBFS"),
    "too short": (encoded(tone(0.1)), "is too short: 0.100 s, at least 0.2 s are needed"),
}


@pytest.mark.parametrize(("bad", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_lists_bad_recordings_with_reasons(tmp_path: Path, bad: bytes, reason: str) -> None:
    found = built(tmp_path, {"sub/bad.wav": bad, "good.wav": encoded(tone())})
    assert list(found.good["path"]) == ["good.wav"]
    assert list(found.bad["path"]) == ["sub/bad.wav"]
    assert found.bad["reason"][0].startswith(reason)


def test_lists_missing_and_irregular_recordings(tmp_path: Path) -> None:
    (tmp_path / "b.wav").mkdir()
    corpus = Listed([Utterance(Path(name), "S", "sad") for name in ("a.wav", "b.wav")])
    found = build(corpus, tmp_path, settings=SETTINGS, workers=1)
    reasons = ["No such file or directory", "a folder, not a regular file"]
    assert list(found.bad["reason"]) == [f"cannot be read ({reason})" for reason in reasons]


def test_refuses_one_recording_with_two_labels(tmp_path: Path) -> None:
    same = encoded(tone())
    found = built(tmp_path, {"a.wav": same, "b.wav": same})
    assert list(found.bad.itertuples(index=False, name=None)) == [
        ("a.wav", "has the same bytes as b.wav, which has other labels"),
        ("b.wav", "has the same bytes as a.wav, which has other labels"),
    ]
    copies = Listed([Utterance(Path(name), "S", "sad") for name in ("a.wav", "b.wav")])
    assert build(copies, tmp_path, settings=SETTINGS, workers=1).bad.empty


def test_ids_are_unique_paths(tmp_path: Path) -> None:
    files = {"x/a.wav": encoded(tone()), "x/b.wav": encoded(tone(0.5)), "x/b.flac": encoded(tone(), "FLAC")}
    assert list(built(tmp_path, files).good["id"]) == ["x/a", "x/b.wav", "x/b.flac"]


def test_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    corpus = filled(tmp_path / "raw", {f"{n}.wav": encoded(tone(0.3 + n / 100)) for n in range(6)} | {"bad.wav": b""})
    for workers in (1, 2):
        write(tmp_path / str(workers), build(corpus, tmp_path / "raw", settings=SETTINGS, workers=workers))
    for name in (MANIFEST, BAD_RECORDINGS):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.slow
def test_tess(tess_dir: Path) -> None:
    corpus = open_corpus(CorpusSettings(name="tess", kind="tess", source="data/incoming"))
    settings = SETTINGS.model_copy(update={"max_seconds": 60.0})
    found = build(corpus, tess_dir, settings=settings)
    assert found.bad.empty
    good = check(found.good, "TESS").set_index("id")
    assert good["seconds"].sum() == pytest.approx(5754, abs=1)
    assert good.index[good["sample_rate"] != 24414].tolist() == ["OAF_fear/OAF_food_fear"]
    assert good.loc["OAF_neutral/OA_bite_neutral", "speaker"] == "OAF"
    assert {"YAF_angry/YAF_germ_angry", "YAF_fear/YAF_neat_fear"} <= set(good.index)
    assert good["sha256"].is_unique
