"""the full model + every protocol's metrics + its reference → the one folder that leaves the pipeline, with a card."""

import sys
from pathlib import Path

from speech_emotion.agreement import check_agreement
from speech_emotion.card import CARD, as_trained, read_evidence, write
from speech_emotion.files import canonical_json
from speech_emotion.frames import StoredFrames
from speech_emotion.package import Package, assemble
from speech_emotion.settings.base import read_section
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.settings.package import PackageSettings
from speech_emotion.settings.windows import WindowSettings
from speech_emotion.stage import SCRATCH, run_stage
from speech_emotion.store import FeatureStore
from speech_emotion.windows import FILE


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
