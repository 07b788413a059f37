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
"""Imports and calls that Python and librosa compile once. Compiling everything that is installed would take minutes."""
PIP_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", ""),
    "cert": ("SSL_CERT_FILE", ""),
    "proxy": ("ALL_PROXY", ""),
}
"""Package sources in pip's configuration: uv's variable for each, and its separator."""


def main(venv: Path) -> None:
    """Create the environment if the lock, pyproject.toml or the interpreter changed."""
    use_supported_python()
    scratch = ROOT / ".scratch"
    scratch.mkdir(exist_ok=True)
    with open(scratch / "setup.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # a second `make` waits
        stamp = venv / "installed"
        if not stamp.exists() or stamp.read_text() != wanted():
            install(venv)
            stamp.write_text(wanted())


def use_supported_python() -> None:
    """Continue in a supported Python: this one or another on PATH; otherwise exit with a message."""
    if sys.version_info[:2] in SUPPORTED:
        return
    for major, minor in reversed(SUPPORTED):
        found = shutil.which(f"python{major}.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])
    sys.exit(
        f"error: Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is {sys.version.split()[0]}, and no other is on "
        "PATH.\nInstall one, or name it: make setup PYTHON=/path/to/python3.12"
    )


def wanted() -> str:
    """Return what the environment depends on."""
    digests = [hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in (LOCK.name, "pyproject.toml")]
    return "\n".join([sys.version.split()[0], str(ROOT), *digests]) + "\n"


def install(venv: Path) -> None:
    """Install the lock, then the project itself as an editable package."""
    if venv.is_symlink():  # venv would delete what it points to, and then fail
        sys.exit(f"error: {venv} is a link and does not match requirements.lock. Remove the link and run `make setup`.")
    print(f"Creating {venv} (about 4 GB, a few minutes)", flush=True)
    stamp = venv / "installed"
    same_base = stamp.exists() and stamp.read_text().splitlines()[:2] == wanted().splitlines()[:2]
    if not same_base:  # incomplete, another Python, or a moved checkout
        run([sys.executable, "-m", "venv", "--clear", str(venv)], hint="On Debian and Ubuntu: apt install python3-venv")
    stamp.unlink(missing_ok=True)
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as first:
        # source packages are built with the pinned setuptools
        first.write(pinned("setuptools") + pinned("uv"))
        first.flush()
        run([*pip, "--require-hashes", "-r", first.name])
    everything = ["--require-hashes", "--no-build-isolation", "-r", str(LOCK)]
    if not by_uv(python, [str(venv / "bin" / "uv"), "pip", "install", "--quiet", "--python", python, *everything]):
        print("uv failed; continuing with pip", flush=True)
        run([*pip, "--no-compile", "--use-pep517", *everything])
    run([*pip, "--no-deps", "--use-pep517", "--no-build-isolation", "--editable", str(ROOT)])
    compile_used(python)


def by_uv(python: str, command: "list[str]") -> bool:
    """Install with uv, which is much faster than pip; return False if it fails."""
    environment = pip_sources(python)
    if "UV_INDEX" in environment and "UV_INDEX" not in os.environ:
        # uv takes a version from the first index that has it, even if another has a better file
        main_only = {name: value for name, value in environment.items() if name != "UV_INDEX"}
        if subprocess.run(command, cwd=ROOT, env=main_only, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return True
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def pip_sources(python: str) -> "dict[str, str]":
    """Return an environment in which uv uses pip's package sources; variables of uv take precedence."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], check=False, stdout=subprocess.PIPE, text=True)
    sources: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        names = PIP_SETTINGS.get(key.rpartition(".")[2])
        if names and value:
            # pip lists environment variables, which take precedence over files, first
            sources.setdefault(names[0], names[1].join(ast.literal_eval(value).split()))
    # like pip, use any index that has the version; hashes are checked
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **sources, **os.environ}


def compile_used(python: str) -> None:
    """Run USED in parallel, so that it is compiled."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = [subprocess.Popen([python, "-c", script], stderr=subprocess.PIPE, env=kept) for script in USED]
    for process in started:
        errors = process.communicate()[1]
        if process.returncode:
            sys.exit(f"error: the installed packages do not work:\n{errors.decode(errors='replace').strip()}")


def pinned(name: str) -> str:
    """Return the entry of a package in the lock."""
    return next(entry for entry in re.split(r"\n(?=\S)", LOCK.read_text()) if entry.startswith(f"{name}==")) + "\n"


def run(command: "list[str]", hint: str = "") -> None:
    """Run a command; exit with one line if it fails."""
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status:
        sys.exit(f"error: `{' '.join(command)}` ended with status {status}. {hint}")


if __name__ == "__main__":
    main(ROOT / sys.argv[1])
