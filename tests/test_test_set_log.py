"""docs/test-set-evaluations.csv has a row for every evaluation of the committed models."""

import csv
import hashlib
import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "test-set-evaluations.csv"
COLUMNS = ["date", "protocol", "model", "digest", "seen", "why", "chosen_by"]
TESTED = ("random", "word", "speaker")
VOICES = ROOT / "reports" / "voices" / "dvc.lock"
FIRST = 31
FIRST_DIGEST = "8ada86575f5c38b423ec9ac7c3968caee8746e61c2d143f51bf21cea2f6c14eb"


def evaluations() -> list[dict[str, str]]:
    with open(TABLE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def outputs(lock: Path) -> dict[str, str]:
    """Return the digest of each output of the committed run."""
    stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"].values()
    outs = (out for stage in stages for out in stage.get("outs", []))
    return {out["path"]: out["md5"].removesuffix(".dir") for out in outs if "md5" in out}


def test_rows_are_complete() -> None:
    rows = evaluations()
    assert list(rows[0]) == COLUMNS
    for number, row in enumerate(rows, start=2):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"]), f"{TABLE}: line {number}"
        assert row["protocol"] in (*TESTED, "corpus", "full"), f"{TABLE}: line {number}"
        assert re.fullmatch(r"([0-9a-f]{32})?", row["digest"]), f"{TABLE}: line {number}"
        assert all(row[name] for name in COLUMNS if name != "digest"), f"{TABLE}: line {number}: an empty column"
    assert [row["date"] for row in rows] == sorted(row["date"] for row in rows)


MODELS = [
    *((ROOT / "dvc.lock", name, TESTED) for name in ("models/tess/protocols", "reports/tess/baselines")),
    (VOICES, "models/voices/protocols", ("speaker", "corpus", "full")),
]


@pytest.mark.parametrize(("lock", "name", "protocols"), MODELS)
def test_committed_models_are_logged(lock: Path, name: str, protocols: tuple[str, ...]) -> None:
    digest = outputs(lock)[name]

    known = {row["protocol"] for row in evaluations() if row["digest"] == digest}

    assert set(protocols) <= known, (
        f"{lock} has {name} with the digest {digest}, evaluated on the test parts of {protocols}: add rows to "
        "docs/test-set-evaluations.csv (docs/experiments.md says how)"
    )


def test_rows_are_never_removed() -> None:
    rows = json.dumps([list(row.values()) for row in evaluations()[:FIRST]])

    assert hashlib.sha256(rows.encode()).hexdigest() == FIRST_DIGEST
