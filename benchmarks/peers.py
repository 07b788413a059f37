"""Run other libraries and the reference notebook in their usual way: what the benchmarks compare with.

    python benchmarks/peers.py features RAW TARGET    # the notebook's loop over a folder, to one file
    python benchmarks/peers.py predict MODEL CLIP     # the notebook's prediction of one clip, in a process of its own

`make bench` installs packages that only this file needs in .scratch/peers, in the versions of requirements-bench.lock.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ROOT / ".scratch" / "peers"
EMOTIONS: Final = 7

SAMPLE_RATE, COEFFICIENTS = 22_050, 40
"""Of the reference notebook: librosa's own defaults otherwise, windows of 2,048 samples every 512."""

Features = Callable[[Path], np.ndarray]
"""A recording in a file → frames, coefficients."""


def librosa_mfcc(path: Path) -> np.ndarray:
    """Return the notebook's MFCCs [shape=(40, t)]."""
    import librosa

    samples, rate = librosa.load(path)
    return librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=COEFFICIENTS)


def mean_mfcc(path: Path) -> np.ndarray:
    """Return what the reference model hears of a recording [shape=(40,)]."""
    return librosa_mfcc(path).mean(axis=1)


def speech_features() -> Features | None:
    """Return python_speech_features at its defaults: 13 coefficients of 25 ms every 10; None: it is not installed."""
    if not _installed("python_speech_features"):
        return None
    from python_speech_features import mfcc
    from scipy.io import wavfile

    def features(path: Path) -> np.ndarray:
        rate, samples = wavfile.read(path)
        # its own default of 512 would cut windows of 25 ms at TESS's rate off
        return mfcc(samples, rate, nfft=1 << (int(0.025 * rate) - 1).bit_length())

    return features


def kaldi() -> Features | None:
    """Return kaldi-native-fbank at its defaults: 13 coefficients of 25 ms every 10; None: it is not installed."""
    if not _installed("kaldi_native_fbank"):
        return None
    import kaldi_native_fbank
    import soundfile

    def features(path: Path) -> np.ndarray:
        samples, rate = soundfile.read(path, dtype="float32")
        options = kaldi_native_fbank.MfccOptions()
        options.frame_opts.samp_freq = rate
        one = kaldi_native_fbank.OnlineMfcc(options)
        one.accept_waveform(rate, samples.tolist())
        one.input_finished()
        return np.array([one.get_frame(number) for number in range(one.num_frames_ready)])

    return features


def opensmile() -> Features | None:
    """Return openSMILE with its MFCCs (opensmile-mfcc.conf) alone; None: it is not installed."""
    if not _installed("opensmile"):
        return None
    import opensmile as smile

    extractor = smile.Smile(
        feature_set=str(Path(__file__).parent / "opensmile-mfcc.conf"), feature_level="lld", num_workers=1
    )
    return lambda path: extractor.process_file(str(path)).to_numpy()


def reference_network() -> Any:
    """Return the reference model as its notebook builds it, compiled, its weights as they begin."""
    from speech_emotion.models.backend import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((COEFFICIENTS, 1)),
            layers.LSTM(128, return_sequences=True),
            layers.ReLU(),
            layers.Dropout(0.2),
            layers.LSTM(128),
            layers.ReLU(),
            layers.Dropout(0.2),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.2),
            layers.BatchNormalization(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.2),
            layers.BatchNormalization(),
            layers.Dense(EMOTIONS, activation="softmax"),
        ]
    )
    network.compile(keras.optimizers.SGD(0.001, momentum=0.9), "categorical_crossentropy", metrics=["accuracy"])
    return network


def frames_network(coefficients: int, *, learning_rate: float) -> Any:
    """Return two LSTM layers over zero-padded frames, the padding masked: what one writes down first, compiled."""
    from speech_emotion.models.backend import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((None, coefficients)),
            layers.Masking(),
            layers.LSTM(128, return_sequences=True),
            layers.LSTM(128),
            layers.Dense(EMOTIONS, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, global_clipnorm=1.0)
    network.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return network


def notebook_features(raw: Path, target: Path) -> None:
    """Write the MFCCs of every recording below a folder to one file, one after the other."""
    np.save(target, np.concatenate([librosa_mfcc(path) for path in sorted(raw.rglob("*.wav"))], axis=1))


def notebook_predict(model: Path, clip: Path) -> np.ndarray:
    """Load the reference model and return its answer to a recording [shape=(1, labels)]."""
    from speech_emotion.models.backend import keras

    network = keras.models.load_model(model)
    return network.predict(mean_mfcc(clip)[None, :, None], verbose=0)


def _installed(name: str) -> bool:
    if str(PACKAGES) not in sys.path:
        # behind the environment's own: what both have comes from there
        sys.path.append(str(PACKAGES))
    return find_spec(name) is not None


def _main(arguments: Sequence[str]) -> None:
    work = {"features": notebook_features, "predict": notebook_predict}[arguments[0]]
    work(*map(Path, arguments[1:]))


if __name__ == "__main__":
    _main(sys.argv[1:])
