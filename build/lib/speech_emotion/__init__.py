"""Speech emotion recognition: from versioned recordings to a served model.

>>> import speech_emotion
>>> recognizer = speech_emotion.load()  # doctest: +SKIP
>>> print(recognizer.predict("clip.wav").label)  # doctest: +SKIP
happy
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speech_emotion.audio.decode import AudioError
    from speech_emotion.core.errors import UserError
    from speech_emotion.inference.recognizer import Prediction, Recognizer
    from speech_emotion.registry.model_resolution import load

# ONNX Runtime sends what it is used for to Microsoft, from 1.29 on, unless this is set before it is imported
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["AudioError", "Prediction", "Recognizer", "UserError", "load"]

_HOMES = {
    "AudioError": "audio.decode",
    "Prediction": "inference.recognizer",
    "Recognizer": "inference.recognizer",
    "UserError": "core.errors",
    "load": "registry.model_resolution",
}


def __getattr__(name: str) -> Any:
    # on first use: whoever imports one module of the package does not wait for ONNX Runtime
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
