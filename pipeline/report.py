"""every report of a corpus + its package → one page."""

import sys
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.process import run_stage
from speech_emotion.data import manifest as manifests
from speech_emotion.evaluation.report_page import write_page
from speech_emotion.models.package import Package


def main() -> None:
    manifest, package, reports, target = map(Path, sys.argv[1:])
    write_page(
        target,
        manifest=manifests.read(manifest),
        package=Package.load(package),
        reports=reports,
        corpus=read_section("corpus", CorpusSettings),
    )
    print(f"report: {target}, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_stage(main)
