"""the full model + every protocol's metrics + its reference → the one folder that leaves the pipeline, with a card."""

import sys
from pathlib import Path

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.serving import PackageSettings, WindowSettings
from speech_emotion.core.io import canonical_json
from speech_emotion.core.process import SCRATCH, run_stage
from speech_emotion.evaluation.model_card import CARD, as_trained, read_evidence, write
from speech_emotion.features.frames import StoredFrames
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.onnx_parity import check_agreement
from speech_emotion.inference.windows import FILE
from speech_emotion.models.package import Package, assemble


def main() -> None:
    full, protocols, robustness, features, reference, target = map(Path, sys.argv[1:])
    kind = read_section("corpus", CorpusSettings).kind
    limits = read_section("package", PackageSettings)
    windows = read_section("windows", WindowSettings)
    heard = FeatureStore(features).narrowed(Package.load(full).description.features)
    frames = StoredFrames((one for _, one in heard.utterances()), SCRATCH)
    difference = check_agreement(full, frames)
    evidence = read_evidence(protocols, robustness)
    description = Package.load(full).description.model_copy(update={"limits": limits})
    card = write(description, evidence, kind=kind, training=as_trained(full, frames=int(frames.lengths.sum())))
    package = assemble(
        full,
        evidence,
        target,
        limits=limits,
        beside={
            CARD: card,
            FILE: canonical_json(windows.model_dump(mode="json")),
            reference.name: reference.read_text(encoding="utf-8"),
        },
    )
    print(f"package: {package.digest[:12]}; ONNX and Keras agree to {difference:.1e} on every utterance")


if __name__ == "__main__":
    run_stage(main)
