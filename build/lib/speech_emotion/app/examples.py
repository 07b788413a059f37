"""Synthesize the example recordings of the page with eSpeak NG."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import soundfile

from speech_emotion.data.corpora.demo import MANNERS, VOICES, Clip, speak_clip

WORD: Final = "voice"
CHANGING: Final = "changing"
"""The example that is longer than a window: several manners, one after the other."""

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "angry": ("angry",),
        "happy": ("happy",),
        "sad": ("sad",),
        CHANGING: ("sad", "neutral", "happy", "angry", "fear", "sad"),
    }
)
"""Examples, and the manners of `corpora.demo` that each is spoken in."""

_PAUSE_SECONDS: Final = 0.25


def available() -> bool:
    """Tell whether the synthesiser is installed."""
    return find_spec("espeakng_loader") is not None


def speak(example: str, folder: Path) -> Path:
    """Speak an example into a file in `folder`, and return its path.

    Raises
    ------
    UserError
        eSpeak NG does not run on this machine.
    """
    import espeakng_loader

    library = str(espeakng_loader.get_library_path())
    assert set(EXAMPLES[example]) <= set(MANNERS)
    speaker = next(iter(VOICES))
    parts: list[np.ndarray] = []
    for number, manner in enumerate(EXAMPLES[example]):
        path = folder / f"{number}.wav"
        speak_clip(Clip(speaker, manner, WORD), path, library)
        samples, rate = soundfile.read(path, dtype="float32")
        parts += [samples, np.zeros(round(_PAUSE_SECONDS * rate), np.float32)]
    spoken = folder / "spoken.wav"
    soundfile.write(spoken, np.concatenate(parts[:-1]), rate)
    return spoken
