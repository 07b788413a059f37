"""the full model + its recordings → the training reference that the package carries for monitoring."""

import sys
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.monitoring import SurveySettings
from speech_emotion.core.io import write_text
from speech_emotion.core.process import run_stage
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.monitoring.reference import survey, text


def main() -> None:
    raw, manifest, split, package, target = map(Path, sys.argv[1:])
    settings = read_section("survey", SurveySettings)
    workers = read_section("compute", ComputeSettings).workers
    [fold] = splits.read(split)
    reference = survey(package, fold, manifests.read(manifest), raw, settings, workers=workers)
    write_text(target, text(reference))
    print(f"survey: {reference.recordings} recordings, {reference.answers} answers to words that were not learned from")


if __name__ == "__main__":
    run_stage(main)
