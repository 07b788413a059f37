import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.dataverse_server import PERSISTENT_ID, Act, DataverseServer, serve
from helpers.files import fill, tree, zipped
from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.errors import UserError
from speech_emotion.data import download
from speech_emotion.data.corpora import facts, open_corpus, ravdess
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.corpora.crema_d import CremaDCorpus
from speech_emotion.data.corpora.published import PublishedCorpus
from speech_emotion.data.corpora.tess import EMOTIONS, TessCorpus
from speech_emotion.data.inventory import corpus_states

NOWHERE = "http://127.0.0.1:9"

RECORDINGS = {
    f"{speaker}_{label}/{speaker}_{word}_{ending}.wav": f"{speaker} {word} {label}".encode() * 100
    for speaker in ("OAF", "YAF")
    for ending, label in EMOTIONS.items()
    for word in ("back", "bite")
}
RECORDINGS["OAF_neutral/OA_bite_neutral.wav"] = RECORDINGS.pop("OAF_neutral/OAF_bite_neutral.wav")
CHECKSUMS = {path: hashlib.sha256(content).hexdigest() for path, content in RECORDINGS.items()}

FOOD, BACK = "OAF_fear/OAF_bite_fear.wav", "OAF_fear/OAF_back_fear.wav"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in COUNTS:
        monkeypatch.delenv(f"{kind.upper()}_DIR", raising=False)
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.02)
    Path("data/incoming").mkdir(parents=True)
    Path("data/incoming/README.md").write_text("Put your copy here.")


@pytest.fixture
def server() -> Iterator[DataverseServer]:
    """The official server, flat as it is."""
    with serve(DataverseServer({Path(path).name: content for path, content in RECORDINGS.items()})) as served:
        yield served


def corpus(source: Path | str = "data/incoming", server: str = NOWHERE) -> TessCorpus:
    settings = CorpusSettings(name="tess", kind="tess", source=str(source))
    download = DownloadSettings(server=server, persistent_id=PERSISTENT_ID, connections=4, timeout_seconds=5, retries=3)
    return TessCorpus(settings, download, checksums=CHECKSUMS)


def flat() -> dict[str, bytes]:
    return {Path(path).name: content for path, content in RECORDINGS.items()}


def kaggle() -> dict[str, bytes]:
    """Everything twice, the folders with capitals here and there."""
    folders = {
        "OAF_fear": "OAF_Fear",
        "OAF_pleasant_surprise": "OAF_Pleasant_surprise",
        "OAF_sad": "OAF_Sad",
        "YAF_pleasant_surprise": "YAF_pleasant_surprised",
    }
    once = {
        f"TESS Toronto emotional speech set data/{folders.get(folder, folder)}/{name}": content
        for (folder, name), content in ((path.split("/"), content) for path, content in RECORDINGS.items())
    }
    return once | {f"tess toronto emotional speech set data/{path}": content for path, content in once.items()}


LAYOUTS = {
    "canonical": dict(RECORDINGS),
    "flat": flat(),
    "kaggle": kaggle(),
    "upper case": {path.upper(): content for path, content in RECORDINGS.items()},
    "with junk": RECORDINGS
    | {"README.txt": b"x", ".DS_Store": b"x", "__MACOSX/._OAF_back_fear.wav": b"x", "licence.pdf": b"x"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["folder", "zip", "zip in the folder", "zip in a zip"])
def test_every_layout_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str], layout: str, form: str) -> None:
    files = LAYOUTS[layout]
    if form == "folder":
        source = fill(tmp_path / "copy", files)
    else:
        source = fill(tmp_path / "copy", {"archive.zip": zipped(files)}) / "archive.zip"
        if form == "zip in the folder":
            source = source.parent
        if form == "zip in a zip":
            outer = zipped({"archive.zip": source.read_bytes(), "notes.txt": b"x"})
            source = fill(tmp_path, {"outer.zip": outer}) / "outer.zip"
    corpus(source).fetch(Path("data/tess/raw"))
    assert tree(Path("data/tess/raw")) == RECORDINGS
    assert "28 recordings, each with its original SHA-256" in capfd.readouterr().out


def test_order_of_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: DataverseServer, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = Path("data/tess/raw")
    named = fill(tmp_path, {"named.zip": zipped(flat())}) / "named.zip"
    corpus(server=server.url).fetch(raw)
    assert "downloading 28 files" in capfd.readouterr().out
    server.requests.clear()
    monkeypatch.setenv("TESS_DIR", str(named))
    for default in ("./data/incoming", tmp_path / "data" / "incoming", "data/incoming"):
        corpus(default, server.url).fetch(raw)
        assert f"reading {named}" in capfd.readouterr().out
        shutil.rmtree("data/incoming", ignore_errors=True)
    fill(Path("data/incoming"), flat())
    corpus(server=server.url).fetch(raw)
    assert "reading data/incoming" in capfd.readouterr().out
    assert not server.requests
    assert tree(raw) == RECORDINGS


@pytest.mark.parametrize(
    ("source", "named", "message"),
    [
        ("typo", "", r"^typo: there is no such folder or zip.*corpus\.source"),
        ("notes.txt", "", r"^notes\.txt: is neither a folder nor a complete zip"),
        ("pipe", "", r"^pipe: is neither a folder nor a complete zip"),
        ("data/incoming", "typo", r"^typo: there is no such folder or zip.*TESS_DIR"),
        ("data/incoming", "data/incoming", "data/incoming: has neither recordings nor a zip"),
        ("mine", "copy", r"^mine: has neither recordings nor a zip\. Put .* change corpus\.source"),
    ],
)
def test_refuses_missing_sources(
    monkeypatch: pytest.MonkeyPatch, server: DataverseServer, source: str, named: str, message: str
) -> None:
    fill(Path(), {"notes.txt": b"no zip", "mine/notes.txt": b"x"})
    fill(Path("copy"), flat())
    os.mkfifo("pipe")
    monkeypatch.setenv("TESS_DIR", named)

    with pytest.raises(UserError, match=message):
        corpus(source, server.url).fetch(Path("raw"))
    assert not server.requests
    assert not Path("raw").exists()


def refused(source: Path) -> str:
    """Return the message with which a copy is refused, having seen that it leaves nothing behind."""
    with pytest.raises(UserError) as error:
        corpus(source).fetch(Path("data/tess/raw"))
    assert not list(Path("data/tess").iterdir())
    return str(error.value)


def test_names_missing_and_altered_recordings(tmp_path: Path) -> None:
    source = fill(tmp_path / "copy", LAYOUTS["upper case"])
    (source / BACK.upper()).unlink()
    (source / FOOD.upper()).write_bytes(b"x")
    overwritten = source / "YAF_SAD/YAF_BITE_SAD.WAV"
    overwritten.write_bytes(RECORDINGS["YAF_sad/YAF_back_sad.wav"])
    message = refused(source)
    assert "25 of 28 recordings" in message
    assert f"missing (1):\n  {BACK}" in message
    assert f"altered (2):\n  {FOOD.upper()}: differs from the original" in message
    assert "YAF_SAD/YAF_BITE_SAD.WAV: contains YAF_sad/YAF_back_sad.wav" in message


def test_renamed_recordings_get_their_own_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    angry = "YAF_angry/YAF_back_angry.wav"
    files = {path: content for path, content in RECORDINGS.items() if path != angry}
    files |= {"clip 17.wav": RECORDINGS[angry], FOOD: RECORDINGS[BACK], BACK: RECORDINGS[FOOD]}
    corpus(fill(tmp_path / "copy", files)).fetch(Path("raw"))
    assert tree(Path("raw")) == RECORDINGS
    message = capfd.readouterr().err
    assert "under another name (3):" in message
    assert f"clip 17.wav: is {angry}" in message


def test_leaves_out_other_audio(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    twins = {f"damaged twin/{Path(FOOD).name}": b"x", f"wrong twin/{Path(FOOD).name}": RECORDINGS[BACK]}
    surplus = {"mine/hello.wav": b"hello", "song.mp3": b"la"} | twins
    corpus(fill(tmp_path / "copy", RECORDINGS | surplus)).fetch(Path("raw"))
    assert tree(Path("raw")) == RECORDINGS
    message = capfd.readouterr().err
    assert "not of TESS, left out (4):" in message
    assert all(name in message for name in surplus)


def test_download_leaves_no_second_copy(server: DataverseServer) -> None:
    server.plan = {"OAF_bite_fear.wav": [Act(cut=500), Act(status=503), Act(garbage=True)]}
    server.files["Readme.pdf"] = b"not audio"
    server.labels["Readme.pdf"] = {"contentType": "application/pdf"}
    corpus(server=server.url).fetch(Path("raw"))
    assert tree(Path("raw")) == RECORDINGS
    assert not server.asked("Readme.pdf")
    assert not [path for path in Path(".scratch").rglob("*") if path.is_file() and path.name != "lock"]


def test_resumes_after_a_failure(server: DataverseServer) -> None:
    server.always["YAF_bite_sad.wav"] = Act(status=404)
    with pytest.raises(UserError, match=r"YAF_bite_sad\.wav"):
        corpus(server=server.url).fetch(Path("raw"))
    assert not Path("raw").exists()
    server.always.clear()
    server.requests.clear()
    corpus(server=server.url).fetch(Path("raw"))
    assert tree(Path("raw")) == RECORDINGS
    assert len(server.requests) < 1 + 28


def test_refuses_changed_raw_tree(tmp_path: Path) -> None:
    corpus(fill(tmp_path / "copy", flat())).fetch(Path("raw"))
    (Path("raw") / FOOD).unlink()
    (Path("raw") / "new.wav").write_bytes(b"x")
    with pytest.raises(UserError, match=rf"(?s)missing \(1\):\n  {FOOD}.*not of TESS \(1\):\n  new\.wav"):
        corpus().utterances(Path("raw"))


NAMES = [
    ("tess", "OAF_neutral/OA_bite_neutral.wav", "OAF", "female", "neutral", "Say the word bite"),  # lacks its F
    ("tess", "YAF_pleasant_surprise/YAF_food_ps.wav", "YAF", "female", "pleasant_surprise", "Say the word food"),
    ("ravdess", "Actor_07/03-01-08-02-01-02-07.wav", "07", "male", "surprise", "Kids are talking by the door"),
    ("crema_d", "1001_DFA_ANG_XX.wav", "1001", "male", "angry", "Don't forget a jacket"),
    ("savee", "DC_sa03.wav", "DC", "male", "sad", "common sentence 03"),
    ("savee", "JK_su15.wav", "JK", "male", "surprise", "su15"),
    ("emodb", "03a01Fa.wav", "03", "male", "happy", "Der Lappen liegt auf dem Eisschrank"),
]
COUNTS = {
    "tess": {"angry": 400, "disgust": 400, "fear": 400, "happy": 400, "neutral": 400, "pleasant_surprise": 400}
    | {"sad": 400},
    "ravdess": {"neutral": 96} | dict.fromkeys(("calm", "happy", "sad", "angry", "fear", "disgust", "surprise"), 192),
    "crema_d": {"neutral": 1087} | dict.fromkeys(("angry", "disgust", "fear", "happy", "sad"), 1271),
    "savee": {"neutral": 120} | dict.fromkeys(("angry", "disgust", "fear", "happy", "sad", "surprise"), 60),
    "emodb": {"angry": 127, "boredom": 81, "neutral": 79, "happy": 71, "fear": 69, "sad": 62, "disgust": 46},
}
SPEAKERS = {"tess": (2, 0), "ravdess": (12, 12), "crema_d": (43, 48), "savee": (0, 4), "emodb": (5, 5)}
"""Women and men."""


def published(kind: str, source: Path | str = "data/incoming", **settings: object) -> PublishedCorpus:
    """Open a corpus that never reaches a server."""
    chosen = CorpusSettings.model_validate({"name": "own", "kind": kind, "source": str(source), **settings})
    server = DownloadSettings(server=NOWHERE, connections=4, timeout_seconds=5.0, retries=0)
    opened = open_corpus(chosen, server)
    assert isinstance(opened, PublishedCorpus)
    return opened


@pytest.mark.parametrize(("kind", "path", "speaker", "sex", "emotion", "text"), NAMES)
def test_names_are_parsed(kind: str, path: str, speaker: str, sex: str, emotion: str, text: str) -> None:
    assert published(kind).parse_name(Path(path)) == Utterance(Path(path), speaker, emotion, text, sex=sex)
    assert published(kind).parse_name(Path("recording 1.wav")) is None


@pytest.mark.parametrize("kind", COUNTS)
def test_committed_lists_are_complete(kind: str) -> None:
    opened = published(kind)
    utterances = [one for path in opened.checksums if (one := opened.parse_name(Path(path)))]
    assert Counter(one.emotion for one in utterances) == COUNTS[kind]
    sexes = [sex for _, sex in {(one.speaker, one.sex) for one in utterances}]
    assert (sexes.count("female"), sexes.count("male")) == SPEAKERS[kind]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in opened.checksums.values())
    assert facts(kind).weights_licence


@pytest.mark.parametrize("kind", COUNTS)
def test_copies_with_other_content_need_a_setting(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    names = list(published(kind).checksums)
    source = fill(tmp_path / "copy", {Path(name).name.upper(): name.encode() for name in names})
    with pytest.raises(UserError, match="altered"):
        published(kind, source).fetch(Path("raw"))
    published(kind, source, checksums="ignore").fetch(Path("raw"))
    assert f"{len(names):,} of them accepted by name only" in capfd.readouterr().out
    assert len(published(kind).utterances(Path("raw"))) == len(names)


def test_two_recordings_with_one_content_are_both_kept(tmp_path: Path) -> None:
    checksums = {f"1001_DFA_{label}_XX.wav": hashlib.sha256(b"same").hexdigest() for label in ("ANG", "SAD")}
    copy = fill(tmp_path / "copy", dict.fromkeys(checksums, b"same"))
    settings = CorpusSettings(name="own", kind="crema_d", source=str(copy))
    CremaDCorpus(settings, checksums=checksums).fetch(Path("raw"))
    assert set(tree(Path("raw"))) == set(checksums)


@pytest.mark.parametrize(
    ("kind", "found", "official"),
    [
        ("savee", "AudioData/DC/a01.wav", "DC_a01.wav"),
        ("crema_d", "AudioWAV/1040_ITH_SAD_X.wav", "1040_ITH_SAD_XX.wav"),
        ("ravdess", "audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav", "Actor_01/03-01-01-01-01-01-01.wav"),
    ],
)
def test_names_in_usual_copies(kind: str, found: str, official: str) -> None:
    opened = published(kind)
    assert official in opened.checksums
    assert opened.plain(found) == opened.plain(official)


LFS = "/media/CheyneyComputerScience/CREMA-D/master/AudioWAV"
DOWNLOADS = {
    "ravdess": ["Actor_07/03-01-08-02-01-02-07.wav", "Actor_24/03-01-08-02-01-02-24.wav"],
    "crema_d": ["1001_DFA_ANG_XX.wav", "1091_WSI_SAD_XX.wav"],
    "emodb": ["03a01Fa.wav", "16b10Wb.wav"],
}


@pytest.mark.parametrize("kind", DOWNLOADS)
def test_interrupted_download(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    recordings = {path: path.encode() * 100 for path in DOWNLOADS[kind]}
    packed = zipped(recordings)
    monkeypatch.setattr(ravdess, "SIZE", len(packed))
    monkeypatch.setattr(ravdess, "MD5", hashlib.md5(packed).hexdigest())
    with serve(DataverseServer({})) as server:
        server.documents = {f"{LFS}/{path}": content for path, content in recordings.items()}
        server.documents["/records/1188976/files/Audio_Speech_Actors_01-24.zip"] = packed
        server.documents["/download/download.zip"] = packed
        server.plan = {path: [Act(cut=100), Act(status=503)] for path in server.documents}
        server.plan["/download/download.zip"].insert(0, Act())
        settings = DownloadSettings(server=server.url, connections=2, timeout_seconds=5.0, retries=2)
        own = CorpusSettings(name="own", kind=kind, source="data/incoming")  # type: ignore[arg-type]
        checksums = {path: hashlib.sha256(content).hexdigest() for path, content in recordings.items()}
        type(published(kind))(own, settings, checksums=checksums).fetch(Path("raw"))
    assert tree(Path("raw")) == recordings
    # the small files of CREMA-D, whose sizes are not listed, begin again
    resumed = {"ravdess": {"", "bytes=100-"}, "crema_d": {""}, "emodb": {"bytes=0-", "", "bytes=100-"}}
    assert {one.range for one in server.requests} == resumed[kind]
    assert not any(server.plan[one.path] for one in server.requests)


def test_savee_needs_registration() -> None:
    with pytest.raises(UserError, match="Register at"):
        published("savee").fetch(Path("raw"))


PARAMS = "corpus:\n  name: {name}\n  kind: {kind}\n  source: {source}\n"


def states(**chosen: str) -> dict[str, str]:
    settings = {"name": "tess", "kind": "tess", "source": "data/incoming"} | chosen
    Path("params.yaml").write_text(PARAMS.format(**settings))
    return {kind: state for kind, _, _, state in corpus_states(Path.cwd())}


def test_inventory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {"tess", "emodb", "folder", "mix"} <= set(states())
    assert states()["tess"].startswith("not here")
    named = fill(tmp_path / "copy", flat())
    monkeypatch.setenv("TESS_DIR", str(named))
    assert states()["tess"] == f"`dvc repro` reads {named}"
    monkeypatch.setenv("TESS_DIR", "typo")
    assert "typo: there is no such folder or zip" in states()["tess"]
    fill(Path("data/tess/raw"), RECORDINGS)
    fill(Path(".demo/data/demo/raw"), {"a.wav": b"x"})
    assert states()["tess"] == "here: data/tess/raw (28 files)"
    assert states()["demo"] == "here: .demo/data/demo/raw (1 file)"
    assert states(kind="folder", name="mine", source="typo")["folder"] == "there is no typo"
    assert "DVC does not expand ~" in states(kind="folder", name="mine", source="~/recordings")["folder"]
    assert states()["folder"].startswith("not set up")
    fill(Path("data/toaster/raw"), {"labels.csv": b"x", "sad/a.wav": b"x"})
    assert states(kind="folder", name="toaster")["folder"].startswith("here: data/toaster/raw (2 files)")
    fill(Path("mine"), {"notes.txt": b"x"})
    shutil.rmtree("data/tess")
    assert "mine: has neither recordings nor a zip" in states(source="mine")["tess"]
    assert all(title and licence for _, title, licence, _ in corpus_states(Path.cwd()))
