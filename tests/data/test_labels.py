import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.irregular import IRREGULAR
from speech_emotion.core.errors import UserError
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.labels import TABLE, read_labelled, write_table


def lay_out(folder: Path, *paths: str, table: str | None = None, name: str = TABLE) -> Path:
    """Put empty recordings, and a table, into a folder."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    if table is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(table, encoding="utf-8")
    return folder


def message(folder: Path) -> str:
    """Return what is said of a folder that cannot be understood, without the folder's own path."""
    with pytest.raises(UserError) as error:
        read_labelled(folder)
    return str(error.value).replace(str(folder), "F")


def understood(folder: Path) -> str:
    """Return the speakers and emotions that are found."""
    return ", ".join(sorted({f"{one.speaker}:{one.emotion}" for one in read_labelled(folder).utterances}))


LAYOUTS: dict[str, tuple[list[str], str]] = {
    "emotion": (["sad/b.wav", "happy/a.ogg", "sad/a.WAV"], ":happy, :sad"),
    "numbers": (["01/b.wav", "1/a.wav"], ":01, :1"),
    "speaker, emotion": (["Zoë/froh/1.wav", "Max/froh/1.wav", "Max/müde/2.m4a"], "Max:froh, Max:müde, Zoë:froh"),
    "speaker, number": (["a/01/1.wav", "a/NA/1.wav", "b/01/1.wav", "b/NA/1.wav"], "a:01, a:NA, b:01, b:NA"),
    "emotion, speaker": (["ang/a/1.wav", "ang/b/1.wav", "hap/a/1.wav", "hap/b/1.wav"], "a:ang, a:hap, b:ang, b:hap"),
    "emotion, actor": (["froh/Actor_01/a.wav", "müde/Actor_01/a.wav"], "Actor_01:froh, Actor_01:müde"),
    "speaker called Joy": (["Joy/sad/a.wav", "Joy/happy/a.wav", "Ben/sad/a.wav"], "Ben:sad, Joy:happy, Joy:sad"),
    "RAVDESS": (["A/03-01-03-01-01-01-01.wav", "B/03-01-05-02-02-01-02.wav"], "01:happy, 02:angry"),
    "RAVDESS, sorted": (["joy/03-01-03-01-01-01-01.wav", "sad/03-01-04-01-01-01-02.wav"], ":joy, :sad"),
    "CREMA-D": (["1001_DFA_ANG_XX.wav", "1040_ITH_SAD_X.wav"], "1001:angry, 1040:sad"),
    "EmoDB": (["wav/03a01Fa.wav", "wav/16b10Wb.wav"], "03:happy, 16:angry"),
    "SAVEE": (["AudioData/DC/sa01.wav", "AudioData/JE/su15.wav"], "DC:sad, JE:surprise"),
    "TESS": (["OAF_angry/OAF_back_angry.wav", "OAF_x/OA_bite_neutral.wav"], "OAF:angry, OAF:neutral"),
    "any script": (["अ/खुशी/1.wav", "अ/มีความสุข/1.wav"], "अ:खुशी, अ:มีความสุข"),
    "similar words": (["कल/a.wav", "काल/b.wav"], ":कल, :काल"),
    "decomposed": ([unicodedata.normalize("NFD", "fröhlich/a.wav"), "müde/a.wav"], ":fröhlich, :müde"),
}


@pytest.mark.parametrize(("paths", "found"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_folders_and_names_label(tmp_path: Path, paths: list[str], found: str) -> None:
    assert understood(lay_out(tmp_path, *paths)) == found


TABLES = {
    "plain": "path,emotion,speaker,text,split\na.wav,sad,S1,Say it,test\nsub/b.flac,joy,S2,,train\n",
    "from Excel": "\ufeffpath,emotion,speaker,text,split\r\na.wav,sad,S1,Say it,test\r\nsub/b.flac,joy,S2,,train\r\n",
    "capitals": "Split;Emotion; PATH ;speaker;text\ntest;sad;a.wav;S1;Say it\ntrain;joy;sub/b.flac;S2;\n",
    "tabs": "path\temotion\tspeaker\tmood\tsplit\ttext\n\na.wav\tsad\tS1\tx\ttest\tSay it\n"
    "./sub/b.flac\tjoy\tS2\t\ttrain\t\n",
    "quotes": 'path,emotion,speaker,text,split\n"a.wav"," sad ",S1,"Say it",test\nsub\\b.flac,joy,S2,,train\n',
    "separator": "sep=;\r\npath;emotion;speaker;text;split\r\na.wav;sad;S1;Say it;test\r\nsub/b.flac;joy;S2;;train\r\n",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_reads_tables_of_many_programs(tmp_path: Path, table: str) -> None:
    lay_out(tmp_path, "a.wav", "sub/b.flac", table=table, name="My labels.CSV")
    assert read_labelled(tmp_path).utterances == (
        Utterance(Path("a.wav"), "S1", "sad", "Say it", "test"),
        Utterance(Path("sub/b.flac"), "S2", "joy", "", "train"),
    )


@pytest.mark.parametrize("cell", ["01", "1", "NA", "1e3", "true", "nan", "-0"])
def test_table_cells_stay_text(tmp_path: Path, cell: str) -> None:
    safe = cell.replace("-0", "0.10")
    lay_out(tmp_path, "a.wav", "b.wav", table=f"path,emotion,speaker,text\na.wav,{safe},{safe},{cell}\nb.wav,x,y,z\n")
    for _ in range(2):
        one = read_labelled(tmp_path).utterances[0]
        assert (one.emotion, one.speaker, one.text) == (safe, safe, cell)
        write_table(tmp_path, read_labelled(tmp_path).utterances)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_accents_may_be_composed_or_not(tmp_path: Path, forms: tuple[str, str]) -> None:
    in_table, on_disk = (unicodedata.normalize(form, "sub/ü.wav") for form in forms)
    label = unicodedata.normalize(forms[0], "fröhlich")
    lay_out(tmp_path, on_disk, "b.wav", table=f"path,emotion,speaker\n{in_table},{label},S\nb.wav,x,S\n")
    for _ in range(2):
        utterances = read_labelled(tmp_path).utterances
        assert [(one.path.as_posix(), one.emotion) for one in utterances] == [("b.wav", "x"), (on_disk, "fröhlich")]
        write_table(tmp_path, utterances)


HEAD = "path,emotion,speaker,text,split\n"

MISTAKES = [
    ("path,emotoin,speaker\na.wav,sad,S\n", "has no column 'emotion'. Found: path, emotoin, speaker."),
    ("", "has no column 'path'. Found: nothing."),
    ("path,emotion,speaker,Emotion\na.wav,sad,S,joy\n", "has the column 'emotion' twice."),
    (HEAD, "lists no recordings."),
    (HEAD + "c.wav,sad,S,,\n", "line 2: c.wav: there is no such file."),
    (HEAD + "a\0.wav,sad,S,,\n", "line 2: a\0.wav: there is no such file."),
    (HEAD + "x/../../a.wav,sad,S,,\n", "line 2: x/../../a.wav lies outside"),
    (HEAD + "/a.wav,sad,S,,\n", "line 2: /a.wav is an absolute path"),
    (HEAD + "C:\\a.wav,sad,S,,\n", "line 2: C:\\a.wav is an absolute path"),
    (HEAD + ",sad,S,,\n", "line 2: has no path."),
    (HEAD + "a.wav,,S,,\n", "line 2: has no emotion."),
    (HEAD + "a.wav,sad,S,,\nb.wav,sad,S,,\n./a.wav,joy,S,,\n", "line 4: ./a.wav is listed a second time"),
    (HEAD + "a.wav,sad,S,Say it, please,train\n", "line 2: has 6 cells and the header has 5."),
    (HEAD + "a.wav,sad\n", "line 2: has 2 cells and the header has 5."),
    (HEAD + "a.wav,sad,S,,dev\n", "line 2: the split 'dev' is none of train, validation, test."),
    (HEAD + "a.wav,sad,S,,train\nb.wav,joy,S,,\n", "line 3: has no split, but other lines have"),
    (HEAD + "a.wav,sad,,,\nb.wav,joy,S,,\n", "line 2: has no speaker, but other lines have"),
    (HEAD + "a.wav,sad/angry,S,,\n", "line 2: the label 'sad/angry' is no usable name"),
    (HEAD + "c.wav,,S,,\na.wav,sad,../S,,\n", "3 mistakes:\n  line 2: c.wav: there is no such file\n  line 2: "),
]


@pytest.mark.parametrize(("table", "said"), MISTAKES)
def test_table_mistakes_name_their_line(tmp_path: Path, table: str, said: str) -> None:
    lay_out(tmp_path, "a.wav", "b.wav", table=table)
    assert message(tmp_path).startswith(f"F/{TABLE}: {said}")


def test_refuses_tables_in_latin1(tmp_path: Path) -> None:
    lay_out(tmp_path, "a.wav")
    (tmp_path / TABLE).write_bytes("path,emotion,speaker\na.wav,wütend,S\n".encode("latin-1"))
    assert "Save it as 'CSV UTF-8'" in message(tmp_path)


FOLDERS: dict[str, tuple[list[str], str]] = {
    "no recordings": (["notes.txt", "sad/.hidden.wav"], "F: has no recordings."),
    "no labels": (["a.wav", "b.wav"], "F: the folders do not label all recordings alike, such as a.wav."),
    "mixed": (["sad/a.wav", "S1/joy/b.wav"], "F: the folders do not label all recordings alike, such as sad/a.wav, S1"),
    "too deep": (
        ["x/S1/joy/a/b.wav", "y/S1/joy/a/b.wav"],
        "F: the folders do not label all recordings alike, such as x",
    ),
    "speakers only": (["Actor_01/a.wav", "Actor_02/b.wav"], "F: the folders name speakers or sessions (Actor_01, Acto"),
    "sessions": (["Actor_01/session 1/a.wav", "Actor_02/session 1/b.wav"], "F: the folders name speakers or sessions"),
    "unclear": (["a/b/1.wav", "a/c/1.wav", "d/e/1.wav"], "F: no lower folder occurs below two upper ones (a, d, b, c)"),
    "two spellings": (["Very_sad/a.wav", "very sad/b.wav"], "F: the labels 'Very_sad' and 'very sad' differ only in"),
    "bad name": (["(old)/a.wav", "sad/b.wav"], "F: (old): the label '(old)' is no usable name"),
    "two tables": (["a.csv", "b.csv", "a.wav"], "F: has 2 tables (a.csv, b.csv)"),
}


@pytest.mark.parametrize(("paths", "said"), FOLDERS.values(), ids=FOLDERS.keys())
def test_refuses_unclear_folders(tmp_path: Path, paths: list[str], said: str) -> None:
    assert message(lay_out(tmp_path, *paths)).startswith(said)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [IRREGULAR["a named pipe"], IRREGULAR["a device"]])
def test_irregular_table_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(lay_out(tmp_path, "a.wav") / TABLE)
    assert "not a regular file" in message(tmp_path)


@pytest.mark.parametrize("wrapping", ["", "Corpus", "Corpus/v1"])
@pytest.mark.parametrize("how", ["speakers", "table"])
def test_enters_lone_folders(tmp_path: Path, wrapping: str, how: str) -> None:
    inner = tmp_path / wrapping
    if how == "table":
        lay_out(inner, "a.wav", "b.wav", table="path,emotion,speaker\na.wav,sad,S\nb.wav,joy,S\n")
    else:
        lay_out(inner, "S/sad/a.wav", "S/joy/b.wav")
    lay_out(tmp_path, ".DS_Store", "__MACOSX/S/sad/a.wav")
    found = read_labelled(tmp_path)
    assert found.root == inner
    assert {(one.speaker, one.emotion) for one in found.utterances} == {("S", "sad"), ("S", "joy")}


def test_lists_what_is_left_out(tmp_path: Path) -> None:
    lay_out(tmp_path, "sad/a.wav", "joy/b.wav", "joy/notes.txt", "README.md", ".git/x.wav", "joy/.b.wav")
    assert read_labelled(tmp_path).left_out == ("README.md", "joy/notes.txt")
    lay_out(tmp_path, table="path,emotion,speaker\nsad/a.wav,sad,S\n")
    assert read_labelled(tmp_path).left_out == ("README.md", "joy/b.wav", "joy/notes.txt")
