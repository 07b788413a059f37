"""every report of a corpus + its package → one page."""

import sys
from pathlib import Path

from speech_emotion.corpora import manifest as manifests
from speech_emotion.package import Package
from speech_emotion.page import write_page
from speech_emotion.settings.base import read_section
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.stage import run_stage


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
