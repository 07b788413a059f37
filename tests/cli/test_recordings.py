"""Finding recordings in folders."""

from pathlib import Path

import pytest

from helpers.irregular import IRREGULAR, unreadable
from helpers.recordings import encoded, tone
from helpers.tiny_package import make_package
from speech_emotion.cli.recordings import Bad, answer, search
from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer


def test_unreadable_subfolder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips", "locked").mkdir(parents=True)

    with unreadable(Path("clips", "locked")), pytest.raises(UserError, match="clips/locked: folder cannot be read"):
        search([Path("clips")])


def test_bad_files_cost_no_good_ones(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "good.wav").write_bytes(encoded(tone()))
    (folder / "broken.wav").write_bytes(b"RIFF")
    pipe = IRREGULAR["a named pipe"](folder / "pipe.wav")
    (folder / "link.wav").symlink_to(pipe)
    recognizer = Recognizer(make_package(tmp_path / "package"))

    found, bad = search([folder])
    [(paths, probabilities)] = answer(recognizer, found, bad)

    assert paths == [folder / "below" / "good.wav"]
    assert len(probabilities) == 1
    reason = "cannot be read (a named pipe, not a regular file)"
    assert bad == [
        Bad(folder / "broken.wav", "is not audio that can be read"),
        Bad(folder / "link.wav", reason),
        Bad(pipe, reason),
    ]
