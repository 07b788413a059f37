"""The question whether pseudo-speakers are other people: how it is answered, and what was answered for TESS."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from speech_emotion.settings.base import read_section
from speech_emotion.settings.pseudo_speakers import PseudoSpeakersSettings

RARELY = 0.25


@pytest.fixture(scope="module")
def measure(root: Path) -> ModuleType:
    """The study's script, whose encoder is not needed to import it."""
    spec = importlib.util.spec_from_file_location("measure", root / "studies" / "voices" / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_threshold_tells_recorded_speakers_apart_and_leaves_made_ones_out(measure: ModuleType) -> None:
    similarities = {
        ("A", "A"): np.array([0.9, 0.8, 0.6]),
        ("B", "B"): np.array([0.9, 0.85, 0.8]),
        ("A", "B"): np.array([0.5, 0.4, 0.3]),
        ("B", "A"): np.array([0.7, 0.4, 0.3]),
        ("A", "A as man"): np.array([0.1, 0.1, 0.1]),
    }

    threshold, error = measure._equal_error({"A", "B"}, similarities)

    assert 0.6 < threshold <= 0.8
    assert error == pytest.approx(1 / 6)


def test_what_it_needs_and_does_not_find_is_one_message(measure: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measure.sys.modules, "resemblyzer", None)

    with pytest.raises(measure.UserError, match=r"studies/voices/README\.md says how to install"):
        measure._encoder()


def test_the_voices_that_params_has_were_asked_about_and_are_nobody_elses(root: Path) -> None:
    settings = read_section("pseudo_speakers", PseudoSpeakersSettings, root / "params.yaml")
    rows = pd.read_csv(root / "reports" / "tess" / "voices" / "voices.csv").set_index("voice")
    actresses = ["OAF", "YAF"]
    made = [f"{actress} as {voice.name}" for actress in actresses for voice in settings.voices]

    assert list(rows.index) == actresses + made
    assert (rows.loc[actresses, "taken_for_source"] == 1).all()
    assert (rows.loc[made, "taken_for_source"] < RARELY).all()
    assert (rows.loc[made, "source"] < rows.loc[made, "itself"]).all()
