"""Synthesize one clip with eSpeak NG, as a script with arguments.

`corpora.demo` runs it as `python -I -S espeak.py …`. eSpeak NG's samples depend on the time, which seeds its pitch
flutter, and on what the process said before, even after a restart of the library. So the seed is fixed and every clip
has its own process. Only the standard library is imported: a clip takes 25 ms, the start of Python included.
"""

import ctypes
import os
import sys
import wave

_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARACTERS = 1
_UTF8 = 1
_SEED = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p)


def speak(library: str, voice: str, text: str, *, rate: int, pitch: int, spread: int, volume: int) -> tuple[bytes, int]:
    """Return a text as 16-bit mono samples in this machine's byte order, and the sample rate in Hz.

    `library` is the path of eSpeak NG's shared library, with `espeak-ng-data` beside it. `voice` is a language and a
    variant, such as ``en-us+f2``. See `corpora.demo.Manner` for the numbers.
    """
    engine = ctypes.CDLL(library)
    # the library keeps the path of its data in 160 bytes; a relative one is short
    os.chdir(os.path.dirname(library))
    sample_rate = engine.espeak_Initialize(_SYNCHRONOUS, 0, b".", _DONT_EXIT)
    if sample_rate <= 0:
        raise RuntimeError(f"eSpeak NG does not start with the data beside {library}")
    # the library seeds itself with the time
    engine.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
    spoken: list[bytes] = []
    callback = _Callback(lambda samples, count, _events: _keep(spoken, samples, count))
    engine.espeak_SetSynthCallback(callback)
    _must(engine.espeak_SetVoiceByName(voice.encode()), f"the voice {voice}")
    for parameter, value in ((_RATE, rate), (_VOLUME, volume), (_PITCH, pitch), (_RANGE, spread)):
        _must(engine.espeak_SetParameter(parameter, value, 0), f"the value {value} of parameter {parameter}")
    said = text.encode()
    _must(engine.espeak_Synth(said, ctypes.c_size_t(len(said) + 1), 0, _CHARACTERS, 0, _UTF8, None, None), "the text")
    _must(engine.espeak_Synchronize(), "to finish")
    return b"".join(spoken), sample_rate


def _keep(spoken: list[bytes], samples: "ctypes._Pointer[ctypes.c_int16]", count: int) -> int:
    if count > 0 and samples:
        spoken.append(ctypes.string_at(samples, 2 * count))
    return 0


def _must(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"eSpeak NG refuses {what} (status {status})")


def main() -> None:
    """Synthesize what the arguments say into the file that the first one names."""
    target, library, voice, text, *numbers = sys.argv[1:]
    target = os.path.abspath(target)
    rate, pitch, spread, volume = map(int, numbers)
    samples, sample_rate = speak(library, voice, text, rate=rate, pitch=pitch, spread=spread, volume=volume)
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples)


if __name__ == "__main__":
    main()
