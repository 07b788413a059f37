"""Create the environment in a folder, exactly as requirements.lock pins it.

Runs on any Python, so that an unsupported one gets a message instead of a syntax error. Does nothing if the environment
already matches the lock.
"""

import ast
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
USED = (
    "import librosa, numpy; librosa.feature.chroma_stft(S=numpy.ones((513, 4)), n_fft=1024, tuning=0.0)",
    "import keras, onnx, onnxruntime, pyarrow.parquet, scipy.signal, seaborn, sklearn.ensemble, sklearn.manifold",
    "import dvc.cli, dvc.commands.repro, dvc.repo, mlflow.pyfunc, mlflow.server, optuna, pytest",
)
"""What the first runs would wait for: Python and librosa compile what is imported or called for the first time.

All that is installed would take two minutes; a third of it is ever imported.
"""
PIP_TOLD = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", ""),
    "cert": ("SSL_CERT_FILE", ""),
    "proxy": ("ALL_PROXY", ""),
}
"""Settings of pip about where packages come from: what uv calls each, and what it puts between several."""


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
    return "\n".join([sys.version.split()[0], str(ROOT), *digests]) + "\n"


def install(venv: Path) -> None:
    """Install the lock, then the project itself as an editable package."""
    if venv.is_symlink():  # venv would delete what it points to, and then fail
        sys.exit(f"error: {venv} is a link and does not match requirements.lock. Remove the link and run `make setup`.")
    print(f"making {venv} (about 4 GB; a few minutes)", flush=True)
    stamp = venv / "installed"
    same_base = stamp.exists() and stamp.read_text().splitlines()[:2] == wanted().splitlines()[:2]
    if not same_base:  # a half-made one, another Python, or a moved checkout
        run([sys.executable, "-m", "venv", "--clear", str(venv)], hint="On Debian and Ubuntu: apt install python3-venv")
    stamp.unlink(missing_ok=True)
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as first:
        # packages that come as source are built by the pinned setuptools, not by whichever is newest today
        first.write(pinned("setuptools") + pinned("uv"))
        first.flush()
        run([*pip, "--require-hashes", "-r", first.name])
    everything = ["--require-hashes", "--no-build-isolation", "-r", str(LOCK)]
    if not by_uv(python, [str(venv / "bin" / "uv"), "pip", "install", "--quiet", "--python", python, *everything]):
        print("pip goes on where uv has stopped", flush=True)
        run([*pip, "--no-compile", "--use-pep517", *everything])
    run([*pip, "--no-deps", "--use-pep517", "--no-build-isolation", "--editable", str(ROOT)])
    compile_used(python)


def by_uv(python: str, command: "list[str]") -> bool:
    """Install with uv, which takes seconds where pip takes minutes; False: pip has to, which can be told more."""
    told = as_pip_was_told(python)
    tries = [told]
    if "UV_INDEX" in told and "UV_INDEX" not in os.environ:
        # Of two indexes with the same version uv sees the first one's files alone, and a further index may have only
        # the wheel for any platform, without the library inside. So the main index is asked by itself first.
        tries.insert(0, {name: value for name, value in told.items() if name != "UV_INDEX"})
    for one, environment in enumerate(tries, 1):
        shown = None if one == len(tries) else subprocess.DEVNULL  # what is not there may be at the next try
        if not subprocess.run(command, cwd=ROOT, env=environment, check=False, stderr=shown).returncode:
            return True
    return False


def as_pip_was_told(python: str) -> "dict[str, str]":
    """Return an environment in which uv looks for packages where pip does, unless uv was told of a place itself."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], check=False, stdout=subprocess.PIPE, text=True)
    told: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        names = PIP_TOLD.get(key.rpartition(".")[2])
        if names and value:
            # the variables of the environment come first, and count more than files
            told.setdefault(names[0], names[1].join(ast.literal_eval(value).split()))
    # of several indexes pip takes whichever has the version; every file is held against its hash
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **told, **os.environ}


def compile_used(python: str) -> None:
    """Use what will be used, on all cores, so that it is compiled."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = [subprocess.Popen([python, "-c", script], stderr=subprocess.PIPE, env=kept) for script in USED]
    for process in started:
        told = process.communicate()[1]
        if process.returncode:
            sys.exit(f"error: what was installed does not work:\n{told.decode(errors='replace').strip()}")


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
