"""The profile of a speaker: what recordings of the speaker's usual voice say about it."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError

from speech_emotion.config.base import Section
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import open_regular_file, write_json

_LARGEST: Final = 1 << 16


class Profile(Section):
    """Mean of each feature over the frames of reference recordings, from `Recognizer.enroll`. It contains no audio."""

    format: Literal[1] = 1
    spec_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Digest of the feature settings and the version of the feature code."""
    frames: Annotated[int, Field(ge=1, le=10**9)]
    mean: Annotated[tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...], Field(min_length=1, max_length=2048)]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a profile; raise a UserError if the file is not one."""
        try:
            with open_regular_file(path) as file:
                return cls.parse(file.read(_LARGEST + 1), str(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from None

    @classmethod
    def parse(cls, content: bytes | str, where: str) -> Self:
        """Return the profile in JSON; raise a UserError that names `where` if it is not one."""
        try:
            if len(content) <= _LARGEST:
                return cls.model_validate_json(content)
        except ValidationError:
            pass
        raise UserError(f"{where}: is not a speaker profile. Make one with `speech-emotion enroll`.")

    def save(self, path: Path) -> None:
        """Write the profile as JSON, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))


@dataclass(frozen=True)
class Profiles:
    """Profiles of the speakers of a batch: `named` by folder or recording, `other` for all other recordings."""

    other: Profile | None = None
    named: Mapping[str, Profile] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path | None, speakers: Path | None) -> Self:
        """Read the profile of all recordings, and those of several speakers.

        `speakers` is a folder of profiles that are named like folders of recordings, or a CSV with the columns path, a
        recording, and profile, a file or empty. Paths in it are relative to the CSV.
        """
        named: dict[str, Profile] = {}
        if speakers is not None and speakers.is_file():
            named = _read_table(speakers)
        elif speakers is not None:
            named = {path.stem: Profile.load(path) for path in sorted(speakers.glob("*.json"))}
        if speakers is not None and not named:
            raise UserError(f"{speakers}: has no speaker profiles (*.json). Make them with `speech-emotion enroll`.")
        return cls(None if file is None else Profile.load(file), named)

    def of(self, recording: str | Path) -> Profile | None:
        """Return the profile of a recording, of its folder, or of the folder above it."""
        path = os.path.abspath(recording)
        names = (path, *Path(path).parts[-2:-4:-1])
        return next((self.named[name] for name in names if name in self.named), self.other)


def _read_table(table: Path) -> dict[str, Profile]:
    """Return the profile of each recording, by its absolute path."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = list(reader := csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{table}: cannot be read as a CSV in UTF-8 ({error}).") from None
    for name in ("path", "profile"):
        if name not in (reader.fieldnames or ()):
            raise UserError(f"{table}: has no column '{name}'. Needed: path, profile.")
    found = [(row["path"], row["profile"]) for row in rows if row["path"] and row["profile"]]
    for path, _ in found:
        if not (table.parent / path).is_file():
            raise UserError(f"{table}: {path}: there is no such file.")
    profiles = {name: Profile.load(table.parent / name) for name in {name for _, name in found}}
    return {os.path.abspath(table.parent / path): profiles[name] for path, name in found}
