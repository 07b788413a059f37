from pathlib import Path

import pytest

from speech_emotion.config.base import section_or
from speech_emotion.config.monitoring import DEFAULT
from speech_emotion.core.errors import UserError

OURS = """\
monitor:
  rows: 70
  false_discovery: 0.01
  halves: 1.0
  least: {seconds: 1.0, level_dbfs: 1.0, peak_dbfs: 1.0, noise_dbfs: 1.0, voiced_share: 1.0, pitch_hz: 1.0,
    pitch_range: 1.0, centroid_hz: 1.0, bandwidth_hz: 1.0, confidence: 1.0, shares: 1.0}
  draws: 100
  seed: 7
  log: {rows: 50, minutes: 1.0}
"""


def test_without_a_file_or_in_another_projects_the_built_in_settings_hold(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    assert section_or(DEFAULT, "monitor", path) == DEFAULT

    path.write_text("lr: 0.1\n")
    assert section_or(DEFAULT, "monitor", path) == DEFAULT


def test_a_section_that_is_there_counts_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(OURS)
    assert section_or(DEFAULT, "monitor", path).rows == 70

    path.write_text(OURS.replace("rows: 70", "rows: many"))
    with pytest.raises(UserError, match=r'monitor\.rows: found "many"; allowed: a whole number'):
        section_or(DEFAULT, "monitor", path)
