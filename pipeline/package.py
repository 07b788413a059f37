"""the full model + every protocol's metrics → the one folder that leaves the pipeline."""

import json
import sys
from pathlib import Path

from speech_emotion.agreement import check_agreement
from speech_emotion.package import assemble
from speech_emotion.settings.base import read_section
from speech_emotion.settings.package import PackageSettings
from speech_emotion.settings.windows import WindowSettings
from speech_emotion.stage import run_stage
from speech_emotion.store import FeatureStore
from speech_emotion.windows import write_settings


def main() -> None:
    full, reports, features, target = map(Path, sys.argv[1:])
    difference = check_agreement(full, [frames for _, frames in FeatureStore(features).utterances()])
    # a folder that begins with a dot is what a killed evaluate left
    evidence = {path.parent.name: json.loads(path.read_text()) for path in sorted(reports.glob("[!.]*/metrics.json"))}
    package = assemble(full, evidence, target, limits=read_section("package", PackageSettings))
    write_settings(target, read_section("windows", WindowSettings))
    print(f"package: {package.digest[:12]}; ONNX and Keras agree to {difference:.1e} on every utterance")


if __name__ == "__main__":
    run_stage(main)
