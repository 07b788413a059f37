"""Read the labels of a folder of recordings from a CSV at its top or from its sub-folders."""

import csv
import difflib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Final

from speech_emotion.audio.decode import SUFFIXES
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import write_text
from speech_emotion.data.corpora.base import Utterance

TABLE: Final = "labels.csv"
"""The name of the table that `write_table` makes."""

REQUIRED: Final = ("path", "emotion", "speaker")
OPTIONAL: Final = ("text", "split")
PARTS: Final = ("train", "validation", "test")

_NAME = re.compile(r"\w([\w .+-]{0,62}\w)?")
_USUAL_EMOTIONS = frozenset(
    {"anger", "angry", "calm", "disgust", "fear", "fearful", "happiness", "happy", "joy", "neutral", "sad", "sadness"}
)
_SHOWN = 20


@dataclass(frozen=True)
class Labelled:
    """What a folder holds.

    Attributes
    ----------
    root : Path
        What the utterances' paths are relative to: the folder, or the only folder in it.
    utterances : tuple of Utterance
        Ordered by path.
    left_aside : tuple of str
        Every other file that is not hidden, relative to `root`: by its suffix no recording, or not listed in the table.
    """

    root: Path
    utterances: tuple[Utterance, ...]
    left_aside: tuple[str, ...]


def read_labelled(folder: Path) -> Labelled:
    """Find out which recordings a folder holds and how they are labelled.

    Parameters
    ----------
    folder : Path
        Holds `emotion/clip.wav`, or `speaker/emotion/clip.wav`, or one CSV at its top whose columns are path (relative
        to the folder), emotion, speaker and, where known, text and split (train, validation, test). All of it may lie
        in a single sub-folder, as in an unpacked zip.

    Raises
    ------
    UserError
        The folder or the table cannot be understood; every mistake is named with its place, the first 20 of them.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    root = _unwrapped(folder)
    files = list(_visible_files(root))
    tables = [path for path in files if len(path.parts) == 1 and path.suffix.lower() == ".csv"]
    if len(tables) > 1:
        names = ", ".join(str(table) for table in tables)
        raise UserError(
            f"{root}: holds {len(tables)} tables ({names}) and only one can label it. Move the others away."
        )
    if tables:
        utterances = _read_table(root / tables[0])
    else:
        utterances = _from_folders(root, [path for path in files if is_recording(path)])
    _check_spelling(root, "label", {utterance.emotion for utterance in utterances})
    _check_spelling(root, "speaker", {utterance.speaker for utterance in utterances})
    taken = {utterance.path for utterance in utterances} | set(tables)
    left_aside = (path.as_posix() for path in files if path not in taken)
    return Labelled(root, tuple(sorted(utterances, key=lambda one: one.path.as_posix())), tuple(left_aside))


def write_table(folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write the table that labels a folder's recordings, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*REQUIRED, *OPTIONAL))
    for one in sorted(utterances, key=lambda one: one.path.as_posix()):
        writer.writerow((one.path.as_posix(), one.emotion, one.speaker, one.text, one.part))
    write_text(folder / TABLE, text.getvalue())


def is_recording(path: PurePath) -> bool:
    """Return whether a file's name is that of a recording."""
    return path.suffix.lower() in SUFFIXES


def listing(lines: Sequence[str]) -> str:
    """Return the first 20 lines, indented, and how many more there are."""
    shown = [f"  {line}" for line in lines[:_SHOWN]]
    more = len(lines) - len(shown)
    return "\n".join([*shown, f"  and {more} more"] if more else shown)


def _unwrapped(folder: Path) -> Path:
    """Step through lone sub-folders to a table, or until recordings lie no deeper than labels can."""
    depths = [len(path.parts) for path in _visible_files(folder) if is_recording(path)]
    chain = [folder]
    while (inner := _lone_folder(chain[-1])) is not None:
        chain.append(inner)
    if any(chain[-1].glob("*.[cC][sS][vV]")):
        return chain[-1]
    return chain[min(max(0, min(depths, default=0) - 3), len(chain) - 1)]


def _lone_folder(folder: Path) -> Path | None:
    entries = [entry for entry in folder.iterdir() if not _is_hidden(entry.name)]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else None


def _visible_files(folder: Path) -> Iterator[Path]:
    """Yield the paths of all files, relative to the folder and in order; links are followed, hidden names are not."""
    been = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in been:
            raise UserError(f"{here}: is a link to a folder that is part of {folder} already. Take the link away.")
        been.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(here, name).relative_to(folder) for name in sorted(files) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _from_folders(root: Path, recordings: list[Path]) -> list[Utterance]:
    if not recordings:
        raise UserError(
            f"{root}: holds no recordings. Put them there as emotion/clip.wav or speaker/emotion/clip.wav, "
            f"or with a CSV whose columns are {', '.join(REQUIRED)}. Known suffixes: {' '.join(sorted(SUFFIXES))}."
        )
    by_depth = {len(path.parts): path for path in reversed(recordings)}
    if set(by_depth) not in ({2}, {3}):
        found = ", ".join(by_depth[depth].as_posix() for depth in sorted(by_depth))
        raise UserError(
            f"{root}: recordings lie at places that do not label them alike, such as {found}. "
            "Lay all of them out as emotion/clip.wav, or all as speaker/emotion/clip.wav, or label them in a CSV."
        )
    if 3 in by_depth:
        _check_order(root, recordings)
    mistakes = {
        f"{Path(*path.parts[:-1])}: {mistake}"
        for path in recordings
        for kind, name in zip(("label", "speaker"), path.parts[-2::-1], strict=False)
        if (mistake := _name_mistake(kind, name))
    }
    _refuse(str(root), sorted(mistakes))
    return [
        Utterance(path=path, speaker=path.parts[0] if len(path.parts) == 3 else "", emotion=path.parts[-2], text="")
        for path in recordings
    ]


def _check_order(root: Path, recordings: list[Path]) -> None:
    """Refuse emotion/speaker/clip.wav, which would teach the model to tell speakers apart, as far as names show it."""
    above, below = ({path.parts[level].lower() for path in recordings} & _USUAL_EMOTIONS for level in (0, 1))
    if above and not below:
        raise UserError(
            f"{root}: the upper folders are named like emotions ({', '.join(sorted(above))}), the lower ones not. "
            "The order is speaker/emotion/clip.wav; turn it round, or label the recordings in a CSV."
        )


def _read_table(table: Path) -> list[Utterance]:
    rows = _rows(table)
    mistakes: list[str] = []
    utterances: list[Utterance] = []
    lines: dict[Path, int] = {}
    for line, row in rows:
        path, mistake = _path_in(table.parent, row["path"])
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
    for column, values in (("speaker", lambda one: one.speaker), ("split", lambda one: one.part)):
        without = [line for (line, _), one in zip(rows, utterances, strict=True) if not values(one)]
        if 0 < len(without) < len(rows):
            mistakes.append(
                f"line {without[0]}: has no {column}, and other lines have one ({len(without)} such in all)"
            )
    _refuse(str(table), mistakes)
    return utterances


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Return each row's line number and its cells by column, optional columns empty where the table lacks them."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{table}: is not UTF-8 text. Save it as 'CSV UTF-8'.") from None
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror}).") from None
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        _check_columns(table, columns)
        rows, mistakes = [], []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                mistakes.append(f"line {reader.line_num}: has {len(cells)} cells and the header has {len(columns)}")
            cell = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
            rows.append((reader.line_num, {name: cell.get(name, "") for name in (*REQUIRED, *OPTIONAL)}))
    except csv.Error as error:
        raise UserError(f"{table}: line {reader.line_num}: is not CSV ({error}).") from None
    _refuse(str(table), mistakes)
    if not rows:
        raise UserError(f"{table}: lists no recordings.")
    return rows


def _check_columns(table: Path, columns: list[str]) -> None:
    twice = [name for name in (*REQUIRED, *OPTIONAL) if columns.count(name) > 1]
    if twice:
        raise UserError(f"{table}: has the column '{twice[0]}' twice.")
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        near = difflib.get_close_matches(missing[0], columns, n=1)
        hint = f" Is '{near[0]}' it?" if near else ""
        raise UserError(
            f"{table}: has no column '{missing[0]}'.{hint} Found: {', '.join(filter(None, columns)) or 'nothing'}. "
            f"Needed: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}."
        )


def _path_in(folder: Path, written: str) -> tuple[Path, str]:
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
        return path, f"{written}: there is no such file"
    return path, ""


def _name_mistake(kind: str, name: str) -> str:
    if not name:
        return f"has no {'emotion' if kind == 'label' else kind}"
    if _NAME.fullmatch(name):
        return ""
    return f"the {kind} '{name}' is no usable name: up to 64 letters, digits, spaces and . + - _ between them"


def _check_spelling(root: Path, kind: str, names: set[str]) -> None:
    alike: dict[str, str] = {}
    for name in sorted(names):
        other = alike.setdefault(re.sub(r"[\W_]+", " ", name).casefold(), name)
        if other != name:
            raise UserError(f"{root}: the {kind}s '{other}' and '{name}' differ by their spelling alone. Choose one.")


def _refuse(where: str, mistakes: Sequence[str]) -> None:
    if len(mistakes) == 1:
        raise UserError(f"{where}: {mistakes[0]}.")
    if mistakes:
        raise UserError(f"{where}: {len(mistakes)} mistakes:\n{listing(mistakes)}")
