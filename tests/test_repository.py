"""No recordings, local paths or package indexes in git; the lock satisfies pyproject.toml."""

import csv
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from ruamel.yaml import YAML

from speech_emotion.registry.gates import folder_md5

ROOT = Path(__file__).resolve().parent.parent
LARGEST_BYTES = 1_500_000
PRETRAINED = ROOT / "src" / "speech_emotion" / "pretrained"

AUDIO = re.compile(r"\.(wav|flac|aiff?|ogg|opus|mp3|m4a|aac|webm|amr|3gp)$", re.IGNORECASE)
PLACES = re.compile(r"(?<![\w.-])/(home|root|Users|work)/\w")
INDEX = re.compile(
    r"(?<!no-emit-)(extra-)?index-url[ =]|find-links[ =]|registry *= *\"http|\"?resolved\"?: *\"http|/simple/?(\s|\"|$)"
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__):
            found += [f"{path.relative_to(ROOT)}: {line[:100]}" for line in text.splitlines() if pattern.search(line)]
    return found


def test_no_recording_is_tracked() -> None:
    assert [path for path in tracked() if AUDIO.search(path.name)] == []


def test_no_database_pickle_or_large_file_is_tracked() -> None:
    assert [path for path in tracked() if path.suffix in {".db", ".pkl", ".pickle", ".joblib"}] == []
    others = [path for path in tracked() if not path.is_relative_to(PRETRAINED)]
    assert [path for path in others if path.stat().st_size > LARGEST_BYTES] == []
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()) < 6_000_000


@pytest.mark.parametrize("pattern", [PLACES, INDEX], ids=["local path", "package index"])
def test_no_address(pattern: re.Pattern[str]) -> None:
    assert lines_with(pattern) == []


@pytest.fixture(scope="module")
def lock() -> dict[str, Version]:
    """The lock's packages, by normalised name."""
    entries = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in entries}


def test_lock_has_hashes_and_no_addresses() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]

    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_lock_satisfies_pyproject(lock: dict[str, Version]) -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = content["project"]
    groups = [project["dependencies"], content["build-system"]["requires"], *project["optional-dependencies"].values()]
    asked = [line for group in groups for line in group]
    # an extra may name other extras of the project itself
    requirements = [one for line in asked if canonicalize_name((one := Requirement(line)).name) != project["name"]]

    missing = [str(one) for one in requirements if canonicalize_name(one.name) not in lock]
    unmet = [
        str(one)
        for one in requirements
        if canonicalize_name(one.name) in lock and lock[canonicalize_name(one.name)] not in one.specifier
    ]

    assert (missing, unmet) == ([], []), "`make lock` writes requirements.lock anew"


def test_pretrained_package_is_in_dvc_lock() -> None:
    lock = ROOT / "reports" / "voices" / "dvc.lock"
    locked = YAML(typ="safe").load(lock.read_text())["stages"]["package"]["outs"][0]

    assert locked["path"] == "models/voices/package"
    assert folder_md5(PRETRAINED) == locked["md5"]


def test_readme_has_the_current_table() -> None:
    table = (ROOT / "reports" / "tess" / "comparison" / "summary.md").read_text(encoding="utf-8")

    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_has_the_current_figures_of_unseen_speakers() -> None:
    table = (ROOT / "reports" / "voices" / "comparison" / "corpora.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("| ")]
    chance, baseline, uar, enrolled = map(rows[0].index, ("chance", "best simple baseline", "UAR", "UAR, 3 neutral"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    for corpus in ("crema_d", "ravdess", "tess"):
        by_sex = {row[2]: row for row in rows if row[:2] == ["speaker", corpus]}
        row = by_sex["all"]
        women, men = (by_sex[sex][uar].split()[0] if sex in by_sex else "-" for sex in ("female", "male"))
        cells = [corpus, row[chance], row[baseline], row[uar], women, men, row[enrolled]]
        assert f"| {' | '.join(cells)} |" in readme


def test_committed_controls_are_sound() -> None:
    """The controls, unlike the model, must land where they should: this checks the pipeline and selects nothing."""
    with open(ROOT / "reports" / "tess" / "comparison" / "table.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows = {(row["protocol"], row["fold"], row["name"]): row for row in table}

    for protocol in ("random", "word", "speaker"):
        shuffled = rows[protocol, "all" if protocol != "speaker" else "mean", "shuffled"]
        assert float(shuffled["uar_low"]) < 1 / 7 < float(shuffled["uar_high"]), protocol
    # level and duration alone are far from chance on a random split
    assert 0.65 < float(rows["random", "all", "shortcut"]["uar"]) < 0.85
