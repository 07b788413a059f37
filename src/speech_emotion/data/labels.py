"""Read the labels of a folder of recordings from a CSV at its top, its sub-folders, or known file names."""

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path, PurePath, PureWindowsPath
from typing import Final

from speech_emotion.audio.decode import SUFFIXES
from speech_emotion.config.data import PUBLISHED
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import is_hidden, nfc, read_csv_rows, refuse, replacing, walk_files, write_csv_rows
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.emotions import usual_names

TABLE: Final = "labels.csv"
"""The name of the table that `write_table` makes."""

REQUIRED: Final = ("path", "emotion", "speaker")
OPTIONAL: Final = ("text", "split")
PARTS: Final = ("train", "validation", "test")

_SPEAKER = re.compile(r"(actor|participant|person|session|ses|speaker|spk|subject|subj)[ _-]?\d+", re.IGNORECASE)
_PUNCTUATION = " .+-_\u200c\u200d"
_TABLE_ADVICE = f"or label the recordings in a CSV with the columns {', '.join(REQUIRED)}"


@dataclass(frozen=True)
class Labelled:
    """What a folder holds.

    Paths are relative to `root`: the folder, or the only folder in it. Utterances are ordered by path; labels and texts
    are in Unicode NFC, paths as the disk has them. `left_out` are all other files that are not hidden; `layout` says
    where the labels come from.
    """

    root: Path
    utterances: tuple[Utterance, ...]
    left_out: tuple[str, ...]
    layout: str


def read_labelled(folder: Path) -> Labelled:
    """Find the recordings of a folder and their labels.

    The folder holds `emotion/clip.wav`, `speaker/emotion/clip.wav`, `emotion/speaker/clip.wav`, recordings named as in
    a known corpus, or one CSV at its top with the columns path (relative to the folder), emotion, speaker and
    optionally text and split (train, validation, test). All of it may lie in a single sub-folder, as in an unpacked
    zip. Raise `UserError` if it cannot be understood, with the first 20 mistakes and their places.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    root = _unwrapped(folder)
    files = [path.relative_to(root) for path in walk_files(root)]
    tables = [path for path in files if len(path.parts) == 1 and path.suffix.lower() == ".csv"]
    if len(tables) > 1:
        names = ", ".join(map(str, tables))
        raise UserError(f"{root}: has {len(tables)} tables ({names}), and only one can label it. Move the others away.")
    if tables:
        layout, found = f"labels from {tables[0]}", _read_table(root / tables[0], files)
    else:
        layout, found = _from_folders(root, [path for path in files if is_recording(path)])
    utterances = [replace(one, speaker=nfc(one.speaker), emotion=nfc(one.emotion), text=nfc(one.text)) for one in found]
    _check_spelling(root, "label", {one.emotion for one in utterances})
    _check_spelling(root, "speaker", {one.speaker for one in utterances})
    taken = {one.path for one in utterances} | set(tables)
    left_out = tuple(path.as_posix() for path in files if path not in taken)
    return Labelled(root, tuple(sorted(utterances, key=lambda one: one.path.as_posix())), left_out, layout)


def write_table(folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write the table that labels a folder's recordings."""
    rows = sorted((one.path.as_posix(), one.emotion, one.speaker, one.text, one.part) for one in utterances)
    with replacing(folder / TABLE) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        write_csv_rows(file, (*REQUIRED, *OPTIONAL), rows)


def is_recording(path: PurePath) -> bool:
    """Return whether a file's suffix is that of a recording."""
    return path.suffix.lower() in SUFFIXES


def _unwrapped(folder: Path) -> Path:
    """Enter lone sub-folders down to a table, or until recordings are at most as deep as labels can be."""
    depths = [len(path.relative_to(folder).parts) for path in walk_files(folder) if is_recording(path)]
    chain = [folder]
    while (inner := _lone_folder(chain[-1])) is not None:
        chain.append(inner)
    if any(chain[-1].glob("*.[cC][sS][vV]")):
        return chain[-1]
    return chain[min(max(0, min(depths, default=0) - 3), len(chain) - 1)]


def _lone_folder(folder: Path) -> Path | None:
    entries = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else None


def _from_folders(root: Path, recordings: list[Path]) -> tuple[str, list[Utterance]]:
    """Return the layout in words, and the utterances."""
    if not recordings:
        raise UserError(
            f"{root}: has no recordings. Put them there as emotion/clip.wav or speaker/emotion/clip.wav, "
            f"{_TABLE_ADVICE}. Known suffixes: {' '.join(sorted(SUFFIXES))}."
        )
    by_depth = {len(path.parts): path for path in reversed(recordings)}
    depth = max(by_depth) if set(by_depth) in ({2}, {3}) else 0
    known = _recognised(recordings)
    if known and not (depth and any(usual_names(name) for path in recordings for name in path.parts[:-1])):
        title, utterances = known
        return f"labels from the file names, which are those of {title}", utterances
    if not depth:
        found = ", ".join(by_depth[depth].as_posix() for depth in sorted(by_depth))
        raise UserError(
            f"{root}: the folders do not label all recordings alike, such as {found}. "
            f"Lay all of them out as emotion/clip.wav, or all as speaker/emotion/clip.wav, {_TABLE_ADVICE}."
        )
    level = _emotion_level(root, recordings, depth)
    layout = ("emotion/clip", "emotion/speaker/clip", "speaker/emotion/clip")[depth - 2 + level]
    labelled = [Utterance(path, path.parts[1 - level] if depth == 3 else "", path.parts[level]) for path in recordings]
    mistakes = {
        f"{one.path.parent}: {mistake}"
        for one in labelled
        for kind, name in (("label", one.emotion), ("speaker", one.speaker))
        if name and (mistake := _name_mistake(kind, nfc(name)))
    }
    refuse(str(root), sorted(mistakes))
    return f"labels from the folders, {layout}", labelled


def _recognised(recordings: list[Path]) -> tuple[str, list[Utterance]] | None:
    """Return a published corpus's title and utterances if all recordings are named as it names them."""
    for kind in PUBLISHED:
        # imported here: every evaluation imports this module, and these need the downloader
        corpus = import_module(f"speech_emotion.data.corpora.{kind}").CORPUS
        utterances = [one for path in recordings if (one := corpus.parse_name(path)) is not None]
        if len(utterances) == len(recordings):
            return corpus.title, utterances
    return None


def _emotion_level(root: Path, recordings: list[Path], depth: int) -> int:
    """Return which folder level names the emotion, 0 or 1; refuse what could teach the model to tell speakers apart."""
    levels = [sorted({path.parts[level] for path in recordings}) for level in range(depth - 1)]
    emotions = [sum(map(bool, map(usual_names, names))) / len(names) for names in levels]
    speakers = [all(_SPEAKER.fullmatch(name) for name in names) for names in levels]
    if depth == 3 and emotions[0] != emotions[1]:
        return int(emotions[1] > emotions[0])
    if depth == 3 and speakers[0] != speakers[1]:
        return int(speakers[0])
    shown = ", ".join(name for names in levels for name in names[:2])
    advice = f"Lay them out as emotion/clip.wav or speaker/emotion/clip.wav, {_TABLE_ADVICE}."
    if all(speakers):
        raise UserError(f"{root}: the folders name speakers or sessions ({shown}), not emotions. {advice}")
    pairs = {path.parts[:-1] for path in recordings}
    if depth == 3 and len(levels[0]) > 1 and len(pairs) == len(levels[1]):
        raise UserError(
            f"{root}: no lower folder occurs below two upper ones ({shown}), so which level names the emotion is "
            f"unclear. {advice}"
        )
    return depth - 2


def _read_table(table: Path, files: Iterable[Path]) -> list[Utterance]:
    rows = read_csv_rows(table, REQUIRED, OPTIONAL)
    on_disk = {nfc(path.as_posix()): path for path in files}
    mistakes: list[str] = []
    utterances: list[Utterance] = []
    lines: dict[Path, int] = {}
    for line, row in rows:
        path, mistake = _path_in(table.parent, row["path"], on_disk)
        problems = [mistake] if mistake else []
        if not mistake and path in lines:
            problems.append(f"{row['path']} is listed a second time (first in line {lines[path]})")
        lines.setdefault(path, line)
        problems += [_name_mistake("label", row["emotion"])]
        problems += [_name_mistake("speaker", row["speaker"]) if row["speaker"] else ""]
        if row["split"] not in ("", *PARTS):
            problems.append(f"the split '{row['split']}' is none of {', '.join(PARTS)}")
        mistakes += [f"line {line}: {problem}" for problem in problems if problem]
        utterances.append(Utterance(path, row["speaker"], row["emotion"], row["text"], row["split"]))
    for column in ("speaker", "split"):
        without = [line for line, row in rows if not row[column]]
        if 0 < len(without) < len(rows):
            mistakes.append(f"line {without[0]}: has no {column}, but other lines have ({len(without)} such in all)")
    refuse(str(table), mistakes)
    return utterances


def _path_in(folder: Path, written: str, on_disk: dict[str, Path]) -> tuple[Path, str]:
    """Return a path relative to the folder, and what is wrong with it or an empty text."""
    if not written:
        return Path(), "has no path"
    # tables come from Windows as well, where a backslash divides
    name = written if (folder / written).is_file() else written.replace("\\", "/")
    if PureWindowsPath(name).drive or name.startswith("/"):
        return Path(name), f"{written} is an absolute path; write it relative to the table's folder"
    path = Path(os.path.normpath(name))
    if path.parts[:1] == ("..",):
        return path, f"{written} lies outside the table's folder"
    if not (folder / path).is_file():
        path = on_disk.get(nfc(path.as_posix()), path)  # the disk may write accents in another way
    if not (folder / path).is_file():
        return path, f"{written}: there is no such file"
    return path, ""


def _name_mistake(kind: str, name: str) -> str:
    if not name:
        return f"has no {'emotion' if kind == 'label' else kind}"
    letters = [unicodedata.category(character)[0] in "LMN" or character == "_" for character in name]
    inside = (letter or character in _PUNCTUATION for letter, character in zip(letters, name, strict=True))
    if len(name) <= 64 and letters[0] and letters[-1] and all(inside):
        return ""
    return f"the {kind} '{name}' is no usable name: up to 64 letters, digits, spaces and . + - _ between them"


def _check_spelling(root: Path, kind: str, names: set[str]) -> None:
    alike: dict[str, str] = {}
    for name in sorted(names):
        other = alike.setdefault(re.sub(rf"[{re.escape(_PUNCTUATION)}]+", " ", name).casefold(), name)
        if other != name:
            raise UserError(f"{root}: the {kind}s '{other}' and '{name}' differ only in spelling. Choose one.")
