"""Speed of MFCC extraction compared with librosa: one core, warm, equal settings and equal coefficients.

TESS_DIR=/path/to/tess python benchmarks/features.py
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

import measuring
import peers
import workspace
from measuring import Figure
from speech_emotion.audio.decode import load
from speech_emotion.config.base import parse_section
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.features.mfcc import Extractor

AGREEMENT: Final = 2e-3
"""Largest difference from librosa's coefficients."""


def main() -> None:
    """Measure, and write results/features.json."""
    given = measuring.options(__doc__).parse_args()
    clips = measuring.some(workspace.tess().paths, 14 if given.tiny else 70)
    extract = _ours()
    worst = max(float(np.abs(extract(path) - peers.librosa_mfcc(path).T).max()) for path in clips)
    if worst > AGREEMENT:
        raise UserError(f"the coefficients differ from librosa's by {worst:.1e}, more than {AGREEMENT:.0e}")
    with measuring.one_core(), ExitStack() as stack:
        makers = {"ours": _ours, "librosa": _librosa}
        ways = {name: stack.enter_context(measuring.apart(make, clips)) for name, make in makers.items()}
        times = measuring.interleaved(ways, 2 if given.tiny else 5)
    own, peer = (times[name].scaled(1 / len(clips)) for name in ("ours", "librosa"))
    note = f"coefficients within {worst:.0e}"
    measuring.write_figures("features", [Figure.ratio("mfcc", own, peer, note)], tiny=given.tiny)


def _ours() -> Callable[[Path], np.ndarray]:
    settings = parse_section("featurize", FeaturizeSettings, workspace.REFERENCE)
    extractor = Extractor(settings)
    return lambda path: extractor(load(path, settings.sample_rate))


def _librosa() -> Callable[[Path], np.ndarray]:
    return peers.librosa_mfcc


if __name__ == "__main__":
    measuring.main(main)
