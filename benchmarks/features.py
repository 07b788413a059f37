"""Speed of MFCC extraction compared with librosa and three other libraries.

    TESS_DIR=/path/to/tess python benchmarks/features.py

One core, warm, for one recording; two new processes with all cores for all of TESS.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

import measuring
import peers
import workspace
from measuring import Figure, Times
from speech_emotion.audio.decode import decode, load
from speech_emotion.config.base import parse_section
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.features.mfcc import Extractor

AGREEMENT: Final = 2e-3
"""To which the coefficients have to be librosa's."""

OTHERS: Final = {
    "mfcc psf": ("python_speech_features", peers.speech_features),
    "mfcc kaldi": ("kaldi-native-fbank", peers.kaldi),
    "mfcc opensmile": ("opensmile", peers.opensmile),
}


def main() -> None:
    """Measure, and write results/features.json."""
    given = measuring.options(__doc__).parse_args()
    corpus = workspace.tess()
    clips = _riff(measuring.some(corpus.paths, 14 if given.tiny else 70))
    with measuring.one_core():
        figures, floor = _a_clip(clips, corpus, repeats=2 if given.tiny else 5)
    figures.append(_whole(corpus.cut(42) if given.tiny else corpus, repeats=1 if given.tiny else 2))
    measuring.write_figures("features", figures, tiny=given.tiny, **floor)


def _riff(paths: Sequence[Path]) -> list[Path]:
    """Leave out what is no WAV though it is called one: not every library reads by content."""
    return [path for path in paths if path.read_bytes()[:4] == b"RIFF"]


def _a_clip(
    clips: Sequence[Path], corpus: workspace.Corpus, *, repeats: int
) -> tuple[list[Figure], dict[str, dict[str, float]]]:
    ours = _ours()
    worst = max(float(np.abs(ours(path) - peers.librosa_mfcc(path).T).max()) for path in clips)
    if worst > AGREEMENT:
        raise UserError(f"the coefficients differ from librosa's by {worst:.1e}, more than {AGREEMENT:.0e}: no ratio.")
    makers: dict[str, Callable[[], peers.Features]] = {"ours": _ours, "librosa": _librosa}
    # what a clip costs before the first coefficient
    makers |= {"decode": _decode, "decode and resample": _load}
    makers |= {row: open_peer for row, (_, open_peer) in OTHERS.items() if open_peer() is not None}
    with ExitStack() as stack:
        ways = {
            name: stack.enter_context(measuring.apart(measuring.each, make, clips)) for name, make in makers.items()
        }
        times = measuring.interleaved(ways, repeats)
    times = {name: one.scaled(1 / len(clips)) for name, one in times.items()}
    seconds = float(corpus.rows["seconds"].mean())
    figures = [
        Figure.ratio("mfcc", times["ours"], times["librosa"], f"coefficients within {worst:.0e} of librosa's"),
        *(_against(row, name, times) for row, (name, _) in OTHERS.items()),
    ]
    a_clip = {name: round(1000 * one.median, 4) for name, one in times.items()}
    return figures, {
        "milliseconds_a_clip": a_clip,
        "milliseconds_a_second_of_audio": {name: round(one / seconds, 4) for name, one in a_clip.items()},
    }


def _settings() -> FeaturizeSettings:
    return parse_section("featurize", FeaturizeSettings, workspace.REFERENCE)


def _ours() -> peers.Features:
    settings = _settings()
    extractor = Extractor(settings)
    return lambda path: extractor(load(path, settings.sample_rate))


def _librosa() -> peers.Features:
    return peers.librosa_mfcc


def _decode() -> peers.Features:
    return lambda path: decode(path).samples


def _load() -> peers.Features:
    return partial(load, sample_rate=_settings().sample_rate)


def _against(row: str, name: str, times: dict[str, Times]) -> Figure:
    if row not in times:
        return Figure(row, None, note=f"{name} is not installed: `make bench` installs it")
    return Figure.ratio(row, times["ours"], times[row])


def _whole(corpus: workspace.Corpus, *, repeats: int) -> Figure:
    with workspace.made_of(corpus) as made, tempfile.TemporaryDirectory(dir=measuring.SCRATCH) as folder:
        made.set({"featurize": workspace.REFERENCE, "augment": {"copies": 0}})
        script, target = str(Path(__file__).with_name("peers.py")), str(Path(folder) / "features.npy")
        ways = {
            "ours": made.featurize,
            "librosa": lambda: measuring.run("python", script, "features", str(made.raw), target),
        }
        times = measuring.interleaved(ways, repeats, warm=False)
    megabytes = sum(path.stat().st_size for path in corpus.paths) / 1e6
    return Figure.ratio(
        "tess features", times["ours"], times["librosa"], f"{len(corpus.rows)} recordings, {megabytes:.0f} MB"
    )


if __name__ == "__main__":
    measuring.main(main)
