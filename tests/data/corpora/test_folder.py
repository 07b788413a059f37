from pathlib import Path

import pytest

from helpers.files import fill, tree, zipped
from helpers.irregular import IRREGULAR
from helpers.recordings import encoded, tone
from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.data.corpora.folder import FolderCorpus

WAV = encoded(tone(0.3))
FLAC = encoded(tone(0.4), "FLAC")
FILES = {"S1/sad/a.wav": WAV, "S1/joy/b.flac": FLAC, "S2/sad/c.wav": b"not audio", "S2/joy/d.wav": b""}


def corpus(source: Path) -> FolderCorpus:
    return FolderCorpus(CorpusSettings(name="mine", kind="folder", source=str(source)))


def recordings(raw: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(raw).items() if name.endswith((".wav", ".flac"))}


def test_copies_every_byte(tmp_path: Path) -> None:
    source, raw = fill(tmp_path / "source", FILES), tmp_path / "raw"
    before = digest_folder(source)
    corpus(source).fetch(raw)
    assert recordings(raw) == FILES
    assert digest_folder(source) == before
    assert [(one.path.as_posix(), one.speaker, one.emotion) for one in corpus(source).utterances(raw)] == [
        ("S1/joy/b.flac", "S1", "joy"),
        ("S1/sad/a.wav", "S1", "sad"),
        ("S2/joy/d.wav", "S2", "joy"),
        ("S2/sad/c.wav", "S2", "sad"),
    ]


def test_table_labels_outlive_the_source(tmp_path: Path) -> None:
    table = b"path;emotion;speaker;text;split\na.wav;sad;S1;Say it;train\nb.wav;joy;S2;;test\n"
    source = fill(tmp_path / "source", {"a.wav": WAV, "b.wav": FLAC, "unlisted.wav": WAV, "My table.csv": table})
    corpus(source).fetch(tmp_path / "raw")
    assert set(recordings(tmp_path / "raw")) == {"a.wav", "b.wav"}
    found = corpus(tmp_path / "gone").utterances(tmp_path / "raw")
    assert [(one.speaker, one.emotion, one.text, one.part) for one in found] == [
        ("S1", "sad", "Say it", "train"),
        ("S2", "joy", "", "test"),
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["a named pipe", "a device"])
def test_refuses_irregular_files(tmp_path: Path, kind: str) -> None:
    source = fill(tmp_path / "source", FILES)
    IRREGULAR[kind](source / "S1/sad/x.wav")
    with pytest.raises(UserError, match=rf"1 of 5 .*\n  S1/sad/x\.wav: {kind}, not a regular file"):
        corpus(source).fetch(tmp_path / "data" / "raw")
    with pytest.raises(UserError, match="not a regular file"):
        corpus(IRREGULAR[kind](tmp_path / "x.zip")).fetch(tmp_path / "data" / "raw")
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("wrapping", ["", "Corpus/"])
@pytest.mark.parametrize("inside", ["the zip itself", "alone in a folder"])
def test_zip_equals_folder(tmp_path: Path, wrapping: str, inside: str) -> None:
    labels = b"path,emotion,speaker\na.wav,sad,S1\nb.wav,joy,S1\n"
    data = zipped({f"{wrapping}a.wav": WAV, f"{wrapping}b.wav": FLAC, f"{wrapping}labels.csv": labels})
    folder = fill(tmp_path / "source", {"Corpus.zip": data, "README.md": b""})
    corpus(folder if inside == "alone in a folder" else folder / "Corpus.zip").fetch(tmp_path / "data" / "raw")
    assert recordings(tmp_path / "data" / "raw") == {"a.wav": WAV, "b.wav": FLAC}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_raw_tree_is_deterministic(tmp_path: Path) -> None:
    corpus(fill(tmp_path / "source", FILES)).fetch(tmp_path / "one")
    corpus(fill(tmp_path, {"source.zip": zipped(dict(reversed(FILES.items())))}) / "source.zip").fetch(tmp_path / "two")
    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")


REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "one label": ({"sad/a.wav": WAV, "sad/b.wav": FLAC}, "all recordings have one label, 'sad'"),
    "a table with a mistake": (
        {"labels.csv": b"path,emotion,speaker\nx.wav,sad,S\n"},
        "line 2: x.wav: there is no such file.",
    ),
    "nothing": ({"README.md": b""}, "has no recordings."),
    "a zip that is none": ({"a.zip": b"PK"}, "a damaged zip"),
    "a zip that leads out": ({"a.zip": zipped({"../sad/a.wav": WAV})}, "leads out of the folder"),
}


@pytest.mark.parametrize(("files", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refusal_keeps_the_raw_tree(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    raw = tmp_path / "data" / "raw"
    corpus(fill(tmp_path / "good", FILES)).fetch(raw)
    before = digest_folder(raw)
    with pytest.raises(UserError) as error:
        corpus(fill(tmp_path / "source", files)).fetch(raw)
    assert said in str(error.value)
    assert digest_folder(raw) == before
    assert list(raw.parent.iterdir()) == [raw]


@pytest.mark.parametrize(
    ("source", "raw"), [("data", "data/mine/raw"), ("data/mine/raw/S1", "data/mine/raw"), ("a", "a")]
)
def test_refuses_overlapping_source(tmp_path: Path, source: str, raw: str) -> None:
    fill(tmp_path / source, FILES)
    with pytest.raises(UserError, match="lies around or within"):
        corpus(tmp_path / source).fetch(tmp_path / raw)
    assert recordings(tmp_path / source) == FILES


def test_missing_source_or_raw_tree(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder or zip"):
        corpus(tmp_path / "none").fetch(tmp_path / "raw")
    with pytest.raises(UserError, match=r"has no labels.csv. Run `dvc repro download`."):
        corpus(tmp_path).utterances(tmp_path)


def test_names_all_unreadable_recordings(tmp_path: Path) -> None:
    source, raw = fill(tmp_path / "source", FILES), tmp_path / "data" / "raw"
    corpus(source).fetch(raw)
    before = digest_folder(raw)
    (source / "S1/sad/gone.wav").symlink_to("nowhere.wav")
    (source / "S2/joy/circle.wav").symlink_to("circle.wav")
    with pytest.raises(UserError) as error:
        corpus(source).fetch(raw)
    assert str(error.value) == (
        f"{source}: 2 of 6 recordings cannot be read:\n"
        "  S1/sad/gone.wav: a link that leads nowhere\n"
        "  S2/joy/circle.wav: a link that leads nowhere\n"
        "Make them readable, or remove them."
    )
    assert digest_folder(raw) == before
    assert list(raw.parent.iterdir()) == [raw]
