"""Search for better training settings and write the report, as a DVC stage."""

from speech_emotion.config.base import read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.params import ComputeSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.config.tuning import TuneSettings
from speech_emotion.core.process import run_stage
from speech_emotion.tuning.objective import SearchInputs
from speech_emotion.tuning.search import search


def main() -> None:
    """Start or resume the search of params.yaml."""
    inputs = SearchInputs(
        read_section("corpus", CorpusSettings),
        read_section("tune", TuneSettings),
        read_section("train", TrainSettings),
        read_section("calibrate", CalibrateSettings),
    )
    outcome = search(inputs, read_section("compute", ComputeSettings))
    if outcome.interrupted:
        raise KeyboardInterrupt
    print(f"tune: {outcome.winner}")


if __name__ == "__main__":
    run_stage(main)
