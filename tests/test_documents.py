"""README.md and docs/: links, commands and examples work."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

import speech_emotion
from speech_emotion.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
IDS = [page.name for page in PAGES]


def lines_of_code(page: Path) -> list[str]:
    """Return the lines of indented and fenced blocks, and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    fenced = [line for block in re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]
    indented = re.findall(r"^    (.*)$", text, flags=re.MULTILINE)
    return [*fenced, *indented, *re.findall(r"`([^`\n]+)`", text)]


def calls(page: Path, program: str) -> list[list[str]]:
    """Return the arguments of a program wherever a page calls it."""
    found = []
    for line in lines_of_code(page):
        for part in re.split(r"&&|;|\|", re.sub(r"(^|\s)#.*", "", line)):
            words = shlex.split(part) if part.count('"') % 2 == part.count("'") % 2 == 0 else part.split()
            if words[:1] == [program]:
                found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_documented_commands_exist(page: Path) -> None:
    for arguments in filter(None, calls(page, "speech-emotion")):
        command = COMMANDS.get(arguments[0])
        assert command is not None, arguments
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known | {"--help"}, arguments
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {arguments[0] for arguments in calls(page, "make") if arguments} <= targets


def test_readme_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    [script] = [one for one in scripts if "import speech_emotion" in one]
    monkeypatch.chdir(tmp_path)
    soundfile.write("clip.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)

    exec(compile(script, "README.md", "exec"), {})

    assert capsys.readouterr().out.strip() in speech_emotion.load().labels
