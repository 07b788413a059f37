"""The profile of a speaker: what recordings of the speaker's usual voice say about it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError

from speech_emotion.config.base import Section
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import open_regular_file, read_csv_rows, refuse, write_json

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
        except (OSError, ValueError) as error:  # ValueError: the path contains a null character
            raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}).") from None

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
        if speakers is not None and speakers.is_dir():
            named = {path.stem: Profile.load(path) for path in sorted(speakers.glob("*.json"))}
        elif speakers is not None:
            named = _read_table(speakers)
        if speakers is not None and not named:
            raise UserError(f"{speakers}: has no speaker profiles. Make them with `speech-emotion enroll`.")
        return cls(None if file is None else Profile.load(file), named)

    def of(self, recording: str | Path) -> Profile | None:
        """Return the profile of a recording, of its folder, or of the folder above it."""
        names = (os.path.realpath(recording), *Path(recording).absolute().parts[-2:-4:-1])
        return next((self.named[name] for name in names if name in self.named), self.other)


def _read_table(table: Path) -> dict[str, Profile]:
    """Return the profile of each recording, by its absolute path."""
    if table.suffix == ".json":
        raise UserError(f"{table}: is one profile. Name it in --profile.")
    files: dict[str, str] = {}
    mistakes = []
    for line, row in read_csv_rows(table, ("path", "profile")):
        path = os.path.realpath(table.parent / row["path"])
        if not os.path.isfile(path):
            mistakes.append(f"line {line}: {row['path']}: there is no such file")
        if path in files:
            mistakes.append(f"line {line}: {row['path']} is listed a second time")
        files[path] = row["profile"]
    refuse(str(table), mistakes)
    profiles = {name: Profile.load(table.parent / name) for name in {*files.values()} - {""}}
    return {path: profiles[name] for path, name in files.items() if name}
