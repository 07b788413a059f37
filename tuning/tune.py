"""features + a protocol's split + the space in params.yaml → the best training settings found, with their report."""

from speech_emotion.config.base import read_section
from speech_emotion.config.compute import ComputeSettings
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.config.tuning import TuneSettings
from speech_emotion.core.process import run_stage
from speech_emotion.tuning.objective import Ground
from speech_emotion.tuning.search import search


def main() -> None:
    """Search, and print what was found."""
    corpus = read_section("corpus", CorpusSettings)
    tune, train = read_section("tune", TuneSettings), read_section("train", TrainSettings)
    ground = Ground.of(corpus, tune, train, read_section("calibrate", CalibrateSettings))
    outcome = search(ground, read_section("compute", ComputeSettings))
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.winner is not None:
        print(f"tune: {outcome.winner.sentence}")


if __name__ == "__main__":
    run_stage(main)
