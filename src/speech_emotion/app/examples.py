"""Synthesize the example recordings of the page with eSpeak NG."""

from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from speech_emotion.data.corpora.demo import VOICES, Clip, speak_clip

EXAMPLES: Final = {
    "angry": ("angry",),
    "happy": ("happy",),
    "sad": ("sad",),
    "changing": ("sad", "neutral", "happy", "angry", "fear", "sad"),
}
"""Examples, and the manners of `corpora.demo` in each; the last one is longer than a window."""


def speak(example: str, folder: Path) -> Path:
    """Speak an example into a file in `folder`; raises UserError if eSpeak NG does not run on this machine."""
    import espeakng_loader

    library = str(espeakng_loader.get_library_path())
    parts: list[np.ndarray] = []
    for number, manner in enumerate(EXAMPLES[example]):
        path = folder / f"{number}.wav"
        speak_clip(Clip(next(iter(VOICES)), manner, "voice"), path, library)
        samples, rate = soundfile.read(path, dtype="float32")
        parts += [samples, np.zeros(rate // 4, np.float32)]
    spoken = folder / "spoken.wav"
    soundfile.write(spoken, np.concatenate(parts[:-1]), rate)
    return spoken
