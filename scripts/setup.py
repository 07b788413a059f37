"""Takes the name of a folder; makes it the project's own environment, exactly as requirements.lock pins it.

Runs on whatever Python is at hand, so that an unfit one gets a message and not a syntax error, and does nothing where
the environment is already as the lock says.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
COMPILED = "import librosa, numpy; librosa.feature.chroma_stft(S=numpy.ones((513, 4)), n_fft=1024, tuning=0.0)"
"""What librosa compiles at its first use in an environment: half a minute, not to be spent in every first run."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Set in every Python of the environment, unless the user has set it: a bare `mlflow ui` otherwise calls home."""


def main(venv: Path) -> None:
    """Make the environment, once for each state of the lock, of pyproject.toml and of the interpreter."""
    use_supported_python()
    scratch = ROOT / ".scratch"
    scratch.mkdir(exist_ok=True)
    with open(scratch / "setup.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two `make` at once: the second waits and finds all done
        stamp = venv / "installed"
        if not stamp.exists() or stamp.read_text() != wanted():
            install(venv)
            stamp.write_text(wanted())


def use_supported_python() -> None:
    """Go on in a Python that will do: this one, or else another on PATH, or else stop and say what is missing."""
    if sys.version_info[:2] in SUPPORTED:
        return
    for major, minor in reversed(SUPPORTED):
        found = shutil.which(f"python{major}.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])
    sys.exit(
        f"error: Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is {sys.version.split()[0]}, and no other is on "
        "PATH.\nInstall one and, where it is not on PATH, name it: make setup PYTHON=/where/it/is/bin/python3.12"
    )


def wanted() -> str:
    """Describe the state that an environment made now would have."""
    digests = [hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in (LOCK.name, "pyproject.toml")]
    return "\n".join([sys.version.split()[0], str(ROOT), *digests, *QUIET]) + "\n"


def install(venv: Path) -> None:
    """Install the lock, then the project itself as an editable package."""
    print(f"making {venv} (about 4 GB; a few minutes)", flush=True)
    stamp = venv / "installed"
    same_base = stamp.exists() and stamp.read_text().splitlines()[:2] == wanted().splitlines()[:2]
    if not same_base:  # a half-made one, another Python, or a moved checkout
        run([sys.executable, "-m", "venv", "--clear", str(venv)], hint="On Debian and Ubuntu: apt install python3-venv")
    stamp.unlink(missing_ok=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as builder:
        # packages that come as source are built by the pinned setuptools, not by whichever is newest today
        builder.write(pinned("setuptools"))
        builder.flush()
        run([*pip, "install", "--require-hashes", "-r", builder.name])
    built_here = ["--use-pep517", "--no-build-isolation"]
    # pip compiles one file after the other; `compile_all` takes all cores for it: 225 s in all instead of 255 on two
    run([*pip, "install", "--require-hashes", "--no-compile", *built_here, "-r", str(LOCK)])
    run([*pip, "install", "--no-deps", *built_here, "--editable", str(ROOT)])
    compile_all(venv)
    hush(venv)
    run([str(venv / "bin" / "python"), "-c", COMPILED])


def compile_all(venv: Path) -> None:
    """Compile what was installed, on all cores; what a package brings for other Pythons fails, and nobody needs it."""
    command = [str(venv / "bin" / "python"), "-m", "compileall", "-qq", "-j", "0", str(venv / "lib")]
    subprocess.run(command, check=False)


def hush(venv: Path) -> None:
    """Have every Python of the environment start with the settings of `QUIET`; a line of a .pth file is run by all."""
    [packages] = venv.glob("lib/python*/site-packages")
    lines = [f"import os; os.environ.setdefault({name!r}, {value!r})\n" for name, value in QUIET.items()]
    (packages / "quiet.pth").write_text("".join(lines))


def pinned(name: str) -> str:
    """Return the lock's entry of a package."""
    return next(entry for entry in re.split(r"\n(?=\S)", LOCK.read_text()) if entry.startswith(f"{name}==")) + "\n"


def run(command: "list[str]", hint: str = "") -> None:
    """Run a command, or end with its status and one line."""
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status:
        sys.exit(f"error: `{' '.join(command)}` ended with status {status}. {hint}")


if __name__ == "__main__":
    main(ROOT / sys.argv[1])
