"""Run the commands of the Dockerfile without an engine, in a clean folder and environment."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import recordings
from helpers.emotion_server import EmotionServer, wait_until_ready
from helpers.services import free_port

HOME = "/opt/speech-emotion"


def stages(root: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the instructions of the Dockerfile's two stages, in their order."""
    text = re.sub(r"\\\n\s*", "", (root / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [(first, rest) for first, _, rest in (line.partition(" ") for line in lines)]
    _, second = [number for number, (first, _) in enumerate(found) if first == "FROM"]
    return found[:second], found[second:]


def installed(root: Path, *extras: str) -> set[str]:
    """Return what the image installs, for some build arguments."""
    command = [sys.executable, str(root / "scripts" / "serving_requirements.py"), *extras]
    return set(re.findall(r"^([\w.-]+)==", subprocess.check_output(command, text=True), flags=re.MULTILINE))


def test_installed_packages(root: Path) -> None:
    plain, registry, log = (installed(root, *extras) for extras in ((), ("mlflow",), ("parquet",)))

    assert {"numpy", "onnxruntime", "uvicorn", "fastapi", "pebble", "h11", "prometheus-client"} <= plain
    assert not plain & {"mlflow", "tensorflow", "keras", "librosa", "pandas", "scipy", "dvc", "optuna"}
    assert log == plain | {"pyarrow"}
    assert {"mlflow", "pandas"} <= registry
    assert not registry & {"tensorflow", "keras", "librosa", "dvc", "optuna"}


def test_unprivileged_and_pinned(root: Path) -> None:
    build, final = map(dict, stages(root))

    for image in (build["FROM"], final["FROM"]):
        assert re.match(r"python:3\.\d+\.\d+-slim-[a-z]+", image), f"{image} is not an exact version"
    assert (final["USER"], "/ping" in final["HEALTHCHECK"]) == ("10001", True)
    assert json.loads(final["ENTRYPOINT"])[:2] == ["speech-emotion", "serve"]


def test_dockerignore(root: Path) -> None:
    build, _ = stages(root)
    copied = {source for first, rest in build if first == "COPY" for source in rest.split()[:-1]}

    allowed = {line.removeprefix("!") for line in (root / ".dockerignore").read_text().split() if line.startswith("!")}

    assert copied == allowed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_image_serves(root: Path, tmp_path: Path) -> None:
    build, final = stages(root)
    folder, home = tmp_path / "build", tmp_path / "home"
    folder.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    kept = {name: value for name, value in os.environ.items() if name == "HOME" or name.startswith(("PIP_", "SSL_"))}
    for first, rest in build:
        if first == "COPY":
            *sources, target = rest.split()
            for source in sources:
                copy(root / source, folder / target / ("" if target.endswith("/") or target == "." else "."), source)
        elif first == "RUN":
            run = rest.replace(HOME, str(home)).replace("$EXTRAS", "")
            subprocess.run(["sh", "-ec", run], cwd=folder, env={**kept, "PATH": path}, check=True, timeout=800)

    by_name, port = dict(final), free_port()
    environment = {"PATH": f"{home / 'bin'}{os.pathsep}/usr/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    entry = [str(port) if part == "8080" else part for part in json.loads(by_name["ENTRYPOINT"])]
    entry[0] = str(home / "bin" / entry[0])
    health = by_name["HEALTHCHECK"].partition("CMD ")[2].replace("8080", str(port))
    clean = tmp_path / "clean"
    clean.mkdir()
    with open(tmp_path / "log", "wb") as log, open(tmp_path / "err", "wb") as errors:
        process = subprocess.Popen(entry, cwd=clean, env=environment, stdout=log, stderr=errors)
    server = EmotionServer(f"http://127.0.0.1:{port}", process, tmp_path / "log")
    try:
        wait_until_ready(server, tmp_path / "err")
        subprocess.run(shlex.split(health), env=environment, check=True, timeout=30)
        assert server.predict(recordings.encoded(recordings.tone()), recordings.lossy("WebM, Opus"))
        assert list(clean.iterdir()) == []
    finally:
        process.terminate()
        assert process.wait(60) == 0


def copy(source: Path, folder: Path, name: str) -> None:
    """Copy as the engine does: a folder's content, or a file, without what it is told to leave out."""
    if source.is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / Path(name).name)
