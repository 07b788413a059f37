from pathlib import Path

import pytest

from speech_emotion.core.errors import UserError
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.labels import TABLE, listing, read_labelled, write_table


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


def test_sub_folders_name_the_emotion(tmp_path: Path) -> None:
    lay_out(tmp_path, "sad/b.wav", "happy/a.ogg", "sad/a.wav")
    assert read_labelled(tmp_path).utterances == (
        Utterance(Path("happy/a.ogg"), "", "happy"),
        Utterance(Path("sad/a.wav"), "", "sad"),
        Utterance(Path("sad/b.wav"), "", "sad"),
    )


def test_two_levels_of_sub_folders_name_the_speaker_and_the_emotion(tmp_path: Path) -> None:
    lay_out(tmp_path, "Zoë/traurig/1.WAV", "Max/fröhlich/2.m4a")
    assert read_labelled(tmp_path).utterances == (
        Utterance(Path("Max/fröhlich/2.m4a"), "Max", "fröhlich"),
        Utterance(Path("Zoë/traurig/1.WAV"), "Zoë", "traurig"),
    )


@pytest.mark.parametrize(
    "table",
    [
        "path,emotion,speaker,text,split\na.wav,sad,S1,Say it,test\nsub/b.flac,joy,S2,,train\n",
        "\ufeffpath,emotion,speaker,text,split\r\na.wav,sad,S1,Say it,test\r\nsub/b.flac,joy,S2,,train\r\n",
        "Split;Emotion; PATH ;speaker;text\ntest;sad;a.wav;S1;Say it\ntrain;joy;sub/b.flac;S2;\n",
        "path emotion speaker mood split text\n\na.wav sad S1 x test Say·it\n./sub/b.flac joy S2  train \n".replace(
            " ", "\t"
        ).replace("·", " "),
        'path,emotion,speaker,text,split\n"a.wav"," sad ",S1,"Say it",test\nsub\\b.flac,joy,S2,,train\n',
    ],
    ids=[
        "plain",
        "from Excel",
        "semicolons, other order, capitals",
        "tabs, more columns, empty lines",
        "quotes, backslash",
    ],
)
def test_a_table_labels_recordings_however_it_was_saved(tmp_path: Path, table: str) -> None:
    lay_out(tmp_path, "a.wav", "sub/b.flac", table=table, name="My labels.CSV")
    assert read_labelled(tmp_path).utterances == (
        Utterance(Path("a.wav"), "S1", "sad", "Say it", "test"),
        Utterance(Path("sub/b.flac"), "S2", "joy", "", "train"),
    )


def test_columns_that_are_optional_may_be_absent_and_speakers_unknown(tmp_path: Path) -> None:
    lay_out(tmp_path, "a.wav", "b.wav", table="path,emotion,speaker\na.wav,sad,\nb.wav,joy,\n")
    assert [one.speaker for one in read_labelled(tmp_path).utterances] == ["", ""]


HEAD = "path,emotion,speaker,text,split\n"

MISTAKES: dict[str, tuple[str, str]] = {
    "missing column": (
        "path,emotoin,speaker\na.wav,sad,S\n",
        "has no column 'emotion'. Is 'emotoin' it? Found: path, emotoin, speaker. "
        "Needed: path, emotion, speaker; optional: text, split.",
    ),
    "no header": (
        "a.wav,sad,S\n",
        "has no column 'path'. Found: a.wav, sad, s. Needed: path, emotion, speaker; optional: text, split.",
    ),
    "nothing": ("", "has no column 'path'. Found: nothing. Needed: path, emotion, speaker; optional: text, split."),
    "column twice": ("path,emotion,speaker,Emotion\na.wav,sad,S,joy\n", "has the column 'emotion' twice."),
    "no rows": (HEAD, "lists no recordings."),
    "file not found": (HEAD + "c.wav,sad,S,,\n", "line 2: c.wav: there is no such file."),
    "outside": (HEAD + "../a.wav,sad,S,,\n", "line 2: ../a.wav lies outside the table's folder."),
    "outside in the end": (HEAD + "x/../../a.wav,sad,S,,\n", "line 2: x/../../a.wav lies outside the table's folder."),
    "absolute": (
        HEAD + "/a.wav,sad,S,,\n",
        "line 2: /a.wav is an absolute path; write it relative to the table's folder.",
    ),
    "absolute, Windows": (
        HEAD + "C:\\a.wav,sad,S,,\n",
        "line 2: C:\\a.wav is an absolute path; write it relative to the table's folder.",
    ),
    "no path": (HEAD + ",sad,S,,\n", "line 2: has no path."),
    "no emotion": (HEAD + "a.wav,,S,,\n", "line 2: has no emotion."),
    "row twice": (
        HEAD + "a.wav,sad,S,,\nb.wav,sad,S,,\n./a.wav,joy,S,,\n",
        "line 4: ./a.wav is listed a second time (first in line 2).",
    ),
    "too many cells": (HEAD + "a.wav,sad,S,Say it, please,train\n", "line 2: has 6 cells and the header has 5."),
    "too few cells": (HEAD + "a.wav,sad\n", "line 2: has 2 cells and the header has 5."),
    "unknown split": (HEAD + "a.wav,sad,S,,dev\n", "line 2: the split 'dev' is none of train, validation, test."),
    "some without split": (
        HEAD + "a.wav,sad,S,,train\nb.wav,joy,S,,\n",
        "line 3: has no split, and other lines have one (1 such in all).",
    ),
    "some without speaker": (
        HEAD + "a.wav,sad,,,\nb.wav,joy,S,,\n",
        "line 2: has no speaker, and other lines have one (1 such in all).",
    ),
    "label that is no name": (
        HEAD + "a.wav,sad/angry,S,,\n",
        "line 2: the label 'sad/angry' is no usable name: up to 64 letters, digits, spaces and . + - _ between them.",
    ),
    "several": (
        HEAD + "c.wav,,S,,\na.wav,sad,../S,,\n",
        "3 mistakes:\n  line 2: c.wav: there is no such file\n  line 2: has no emotion\n"
        "  line 3: the speaker '../S' is no usable name: up to 64 letters, digits, spaces and . + - _ between them",
    ),
    "NUL": (HEAD + "a\0.wav,sad,S,,\n", "line 2: a\0.wav: there is no such file."),
}


@pytest.mark.parametrize(("table", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_table_is_named_with_its_place(tmp_path: Path, table: str, said: str) -> None:
    lay_out(tmp_path, "a.wav", "b.wav", table=table)
    assert message(tmp_path) == f"F/{TABLE}: {said}"


def test_a_table_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    lay_out(tmp_path, "a.wav")
    (tmp_path / TABLE).write_bytes("path,emotion,speaker\na.wav,wütend,S\n".encode("latin-1"))
    assert message(tmp_path) == f"F/{TABLE}: is not UTF-8 text. Save it as 'CSV UTF-8'."


FOLDERS: dict[str, tuple[list[str], str]] = {
    "no recordings": (["notes.txt", "sad/.hidden.wav"], "F: holds no recordings."),
    "no labels": (["a.wav", "b.wav"], "F: recordings lie at places that do not label them alike, such as a.wav."),
    "mixed": (
        ["sad/a.wav", "S1/joy/b.wav"],
        "F: recordings lie at places that do not label them alike, such as sad/a.wav, S1/joy/b.wav.",
    ),
    "too deep": (
        ["x/S1/joy/a/b.wav", "y/S1/joy/a/b.wav"],
        "F: recordings lie at places that do not label them alike, such as x/S1/joy/a/b.wav.",
    ),
    "emotion above speaker": (
        ["sad/S1/a.wav", "happy/S1/b.wav"],
        "F: the upper folders are named like emotions (happy, sad), the lower ones not.",
    ),
    "one label in two spellings": (
        ["Very_sad/a.wav", "very sad/b.wav"],
        "F: the labels 'Very_sad' and 'very sad' differ by their spelling alone. Choose one.",
    ),
    "folder that is no name": (["(old)/a.wav", "sad/b.wav"], "F: (old): the label '(old)' is no usable name"),
    "two tables": (["a.csv", "b.csv", "a.wav"], "F: holds 2 tables (a.csv, b.csv) and only one can label it."),
}


@pytest.mark.parametrize(("paths", "said"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_folder_that_does_not_label_its_recordings_says_why(tmp_path: Path, paths: list[str], said: str) -> None:
    assert message(lay_out(tmp_path, *paths)).startswith(said)


def test_no_folder_says_so(tmp_path: Path) -> None:
    assert message(tmp_path / "none") == "F: there is no such folder."


def test_a_long_list_of_mistakes_is_cut_and_counted(tmp_path: Path) -> None:
    rows = "".join(f"{number}.wav,sad,S,,\n" for number in range(25))
    said = message(lay_out(tmp_path, table=HEAD + rows)).splitlines()
    assert said[0] == f"F/{TABLE}: 25 mistakes:"
    assert said[20] == "  line 21: 19.wav: there is no such file"
    assert said[21:] == ["  and 5 more"]


@pytest.mark.parametrize("wrapping", ["", "Corpus", "Corpus/v1"])
@pytest.mark.parametrize("how", ["speakers", "table"])
def test_lone_folders_around_it_are_stepped_into(tmp_path: Path, wrapping: str, how: str) -> None:
    inner = tmp_path / wrapping
    if how == "table":
        lay_out(inner, "a.wav", "b.wav", table="path,emotion,speaker\na.wav,sad,S\nb.wav,joy,S\n")
    else:
        lay_out(inner, "S/sad/a.wav", "S/joy/b.wav")
    lay_out(tmp_path, ".DS_Store", "__MACOSX/S/sad/a.wav")
    found = read_labelled(tmp_path)
    assert found.root == inner
    assert {(one.speaker, one.emotion) for one in found.utterances} == {("S", "sad"), ("S", "joy")}


def test_what_is_not_a_labelled_recording_is_told(tmp_path: Path) -> None:
    lay_out(tmp_path, "sad/a.wav", "joy/b.wav", "joy/notes.txt", "README.md", ".git/x.wav", "joy/.b.wav")
    assert read_labelled(tmp_path).left_aside == ("README.md", "joy/notes.txt")
    lay_out(tmp_path, table="path,emotion,speaker\nsad/a.wav,sad,S\n")
    assert read_labelled(tmp_path).left_aside == ("README.md", "joy/b.wav", "joy/notes.txt")


def test_links_are_followed_and_a_circle_is_named(tmp_path: Path) -> None:
    elsewhere = lay_out(tmp_path / "elsewhere", "a.wav")
    folder = lay_out(tmp_path / "corpus", "joy/b.wav")
    (folder / "sad").symlink_to(elsewhere)
    assert {one.emotion for one in read_labelled(folder).utterances} == {"joy", "sad"}
    (folder / "sad" / "back").symlink_to(folder)
    assert message(folder).startswith("F/sad/back: is a link to a folder that is part of F already.")


def test_the_table_that_is_written_reads_as_what_it_was_made_from(tmp_path: Path) -> None:
    utterances = (
        Utterance(Path("a, b.wav"), "S 1", "sad", 'He said "no"', "test"),
        Utterance(Path("ü/c.wav"), "S 2", "joy", "", "train"),
    )
    lay_out(tmp_path, "a, b.wav", "ü/c.wav")
    write_table(tmp_path, reversed(utterances))
    first = (tmp_path / TABLE).read_bytes()
    assert read_labelled(tmp_path).utterances == utterances
    write_table(tmp_path, utterances)
    assert (tmp_path / TABLE).read_bytes() == first


def test_a_list_of_twenty_is_whole() -> None:
    assert listing([str(number) for number in range(20)]).count("\n") == 19
