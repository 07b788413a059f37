import json
import re
import shutil
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from evaluation.test_model_card import EVALUATION
from helpers.examples import manifest
from helpers.explaining import make_explained
from helpers.tiny_package import make_package
from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import write_json
from speech_emotion.evaluation.explain import explain
from speech_emotion.evaluation.label_issues import COLUMNS
from speech_emotion.evaluation.report_page import markdown, write_page
from speech_emotion.models.package import Package

CORPUS = CorpusSettings(name="tiny", kind="tess", source="data/incoming")
LARGEST_BYTES = 1_500_000


@pytest.fixture(scope="module")
def reports(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed reports on TESS, with the explanation of a small corpus."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("comparison", "corpus", "protocols"):
        shutil.copytree(root / "reports" / "tess" / name, folder / "reports" / name)
    explain(folder / "reports" / "explanation", **make_explained(folder / "case"))
    (folder / "reports" / "baselines").mkdir()
    doubts = pd.DataFrame([(True, "a", "A", "word", "sad", "angry", 0.1, 0.9)], columns=list(COLUMNS))
    doubts.to_csv(folder / "reports" / "baselines" / "label_issues.csv", index=False)
    (folder / "reports" / "robustness").mkdir()
    rows = pd.DataFrame([("speaker", "telephone band", 0.4123456)], columns=["protocol", "condition", "uar"])
    rows.to_csv(folder / "reports" / "robustness" / "table.csv", index=False)
    return folder / "reports"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    found = make_package(tmp_path_factory.mktemp("packaged") / "package")
    for protocol, metrics in EVALUATION.items():
        write_json(found.folder / "evaluation" / f"{protocol}.json", metrics)
    return Package.load(found.folder)


def render(target: Path, package: Package, reports: Path, corpus: CorpusSettings = CORPUS) -> str:
    write_page(target, recordings=manifest(), package=package, reports=reports, corpus=corpus)
    return target.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, package: Package, reports: Path) -> str:
    return render(tmp_path_factory.mktemp("rendered") / "report.html", package, reports)


class Reader(HTMLParser):
    """Collects the attributes of each tag of a page, and checks that every tag is closed."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: dict[str, list[dict[str, str | None]]] = defaultdict(list)
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag].append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_complete_and_offline(page: str) -> None:
    found = Reader(page).found

    sections = [str(one["id"]) for one in found["h2"]]
    assert [one["href"] for one in found["a"]] == [f"#{section}" for section in sections]
    assert {"comparison", "slices", "calibration", "limits", "explanation", "errors"} < set(sections)
    assert "script" not in found
    assert not re.search(r"url\(|@import|https?://", page)
    assert all(str(image["src"]).startswith("data:") and image["alt"] and image["width"] for image in found["img"])
    assert len(found["img"]) == 10
    assert len(page.encode()) < LARGEST_BYTES


def test_unknown_intervals_of_own_corpus(tmp_path: Path, package: Package, reports: Path) -> None:
    shutil.copytree(reports, tmp_path / "reports", ignore=shutil.ignore_patterns("*.png"))
    table = pd.read_csv(reports / "comparison" / "table.csv")
    bounds = [name for name in table.columns if name.endswith(("_low", "_high"))]
    table.assign(p=None, **dict.fromkeys(bounds)).to_csv(tmp_path / "reports/comparison/table.csv", index=False)
    shutil.copytree(package.folder, tmp_path / "package")
    for path in (tmp_path / "package" / "evaluation").iterdir():
        write_json(path, json.loads(re.sub(r"\[0\.\d+, 0\.\d+\]", "[null, null]", json.dumps(EVALUATION[path.stem]))))
    own = CORPUS.model_copy(update={"kind": "folder"})

    page = render(tmp_path / "report.html", Package.load(tmp_path / "package"), tmp_path / "reports", own)

    assert "No interval: each speaker has a single text." in page
    assert "interval unknown" in page
    assert "<small>nan" not in page
    assert not re.search("TESS|actress|Toronto|unseen words", page)


def test_missing_report_is_named(tmp_path: Path, package: Package, reports: Path) -> None:
    shutil.copytree(reports, tmp_path / "reports", ignore=shutil.ignore_patterns("*.png"))
    (tmp_path / "reports" / "baselines" / "label_issues.csv").unlink()

    with pytest.raises(UserError, match=r"label_issues\.csv"):
        render(tmp_path / "report.html", package, tmp_path / "reports")
    assert not (tmp_path / "report.html").exists()


def test_html_in_markdown_is_escaped() -> None:
    shown = "<p><strong>&lt;b&gt;</strong> <code>x&amp;y</code> &lt;script&gt;</p>\n"
    assert str(markdown("**<b>** `x&y` <script>")) == shown
