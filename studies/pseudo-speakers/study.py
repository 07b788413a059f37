"""recordings + features + pseudo-speakers + the speaker split → how well pseudo-speakers predict a new speaker."""

import sys
from functools import partial
from pathlib import Path

from speech_emotion import splits
from speech_emotion.compute import parallel_map
from speech_emotion.corpora import manifest as manifests
from speech_emotion.progress import track
from speech_emotion.reference import read_reference
from speech_emotion.settings.base import read_params, read_section
from speech_emotion.settings.baselines import BaselinesSettings
from speech_emotion.settings.compute import ComputeSettings
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.settings.pseudo_speakers import PseudoSpeakersSettings
from speech_emotion.settings.study import StudyModel, StudySettings
from speech_emotion.stage import run_stage
from speech_emotion.store import FeatureStore
from speech_emotion.study import LEFT_OUT, PSEUDO_SPEAKERS, Material, Score, by_model, scores, write


def main() -> None:
    """Train every model on every speaker fold, and write what becomes of the left-out speaker."""
    raw, manifest, features, pseudo_speakers, split, preset, params, target = map(Path, sys.argv[1:])
    settings = read_section("study", StudySettings, params)
    folds = splits.read(split)
    material = Material(
        manifest=manifests.read(manifest),
        raw=raw,
        store=FeatureStore(features),
        strangers=FeatureStore(pseudo_speakers),
        train=read_params()["train"],
        reference=read_reference(preset, seed=read_section("baselines", BaselinesSettings).seed),
        pseudo_speakers=read_section("pseudo_speakers", PseudoSpeakersSettings),
        held_back=frozenset(name for fold in folds for name in fold.validation),
        workers=read_section("compute", ComputeSettings).workers,
    )
    # made here, once: each worker would make them for itself
    assert material.summaries
    tasks = [(model, fold) for model in settings.models for fold in folds]
    work = partial(_scores, material=material, seed=settings.seed)
    found = [
        one
        for made in track(parallel_map(work, tasks, workers=material.workers), len(tasks), "study", "trainings")
        for one in made
    ]
    for name, rows in by_model(found).groupby("model", sort=False):
        mean = rows.mean(numeric_only=True)
        print(f"study: {name}: pseudo-speakers {mean[PSEUDO_SPEAKERS]:.3f}, left out {mean[LEFT_OUT]:.3f}")
    correlation = write(found, settings, target, corpus=read_section("corpus", CorpusSettings).name)
    best = correlation[(correlation["fold"] == "mean") & (correlation["signal"] == PSEUDO_SPEAKERS)].iloc[0]
    print(f"study: rank correlation {best['rho']:+.2f} ({best['low']:+.2f} to {best['high']:+.2f})")


def _scores(task: tuple[StudyModel, splits.Fold], *, material: Material, seed: int) -> list[Score]:
    return scores(*task, material, seed=seed)


if __name__ == "__main__":
    run_stage(main)
