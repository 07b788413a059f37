"""Audio sources of a live session: the microphone or a file, in blocks."""

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np

from speech_emotion.audio.decode import AudioError, decode
from speech_emotion.core.errors import UserError

BLOCK_SECONDS: Final = 0.05
"""How long a block is: the level on the screen moves as often."""

WAITING_BLOCKS: Final = 200
"""That may wait for an answer: ten seconds. Where answers are slower than sound, others are lost, and counted."""

_RECORD: Final = "or play a recording: --file clip.wav"


@dataclass(frozen=True)
class Block:
    """Sound that has just come.

    Attributes
    ----------
    samples : np.ndarray [shape=(n,)], float32
    arrived : float
        When, by `time.perf_counter`.
    """

    samples: np.ndarray
    arrived: float


class Source(Protocol):
    """Where blocks come from; it is open inside `with`, and ends when there are no more."""

    name: str
    sample_rate: int
    lost: int
    """Blocks that came and could not be taken."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Block]: ...


class Played:
    """A recording in real time, without playback.

    Parameters
    ----------
    path : Path
    sample_rate : int
        Hz, of its blocks.

    Raises
    ------
    UserError
        It cannot be used.
    """

    lost = 0

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.name, self.sample_rate = path.name, sample_rate
        try:
            self._samples = decode(path).mono(sample_rate)
        except AudioError as error:
            raise UserError(f"{path}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Block]:
        size = round(BLOCK_SECONDS * self.sample_rate)
        began = time.perf_counter()
        for start in range(0, len(self._samples), size):
            samples = self._samples[start : start + size]
            due = began + (start + len(samples)) / self.sample_rate
            time.sleep(max(0.0, due - time.perf_counter()))
            # a machine that is late has had the sound all the same
            yield Block(samples, due)


class Microphone:
    """A microphone, through PortAudio.

    Parameters
    ----------
    device : str or None
        Part of its name, or its number; None: the one that the system prefers.

    Raises
    ------
    UserError
        There is no PortAudio, no microphone, or none of that name.
    """

    def __init__(self, device: str | None = None) -> None:
        self._sounddevice = _portaudio()
        found = self._find(device)
        self.name, self.sample_rate = str(found["name"]), int(found["default_samplerate"])
        self.lost = 0
        self._device = int(found["index"])
        self._blocks: queue.Queue[Block] = queue.Queue(WAITING_BLOCKS)

    def _find(self, device: str | None) -> dict[str, Any]:
        inputs = [one for one in self._sounddevice.query_devices() if one["max_input_channels"] > 0]
        if not inputs:
            raise UserError(f"there is no microphone on this machine. Plug one in, {_RECORD}")
        if device is None:
            preferred = self._sounddevice.default.device[0]
            return next((one for one in inputs if one["index"] == preferred), inputs[0])
        for one in inputs:
            if device == str(one["index"]) or device.lower() in one["name"].lower():
                return dict(one)
        listed = "; ".join(f"{one['index']}: {one['name']}" for one in inputs)
        raise UserError(f"--device {device}: there is no such microphone. There are: {listed}.")

    def __enter__(self) -> Self:
        try:
            self._stream = self._sounddevice.InputStream(
                samplerate=self.sample_rate,
                blocksize=round(BLOCK_SECONDS * self.sample_rate),
                device=self._device,
                channels=1,
                dtype="float32",
                callback=self._take,
            )
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise UserError(f"the microphone {self.name} cannot be opened ({error}). Name another, {_RECORD}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Block]:
        while True:
            try:
                yield self._blocks.get(timeout=1.0)
            except queue.Empty:
                if not self._stream.active:
                    raise UserError(f"the microphone {self.name} is gone.") from None

    def _take(self, samples: np.ndarray, count: int, when: Any, status: Any) -> None:
        """Put a block in the queue; PortAudio calls this from a thread of its own, and waits for nobody."""
        self.lost += bool(status.input_overflow)
        try:
            self._blocks.put_nowait(Block(samples[:, 0].copy(), time.perf_counter()))
        except queue.Full:
            self.lost += 1


def _portaudio() -> Any:
    try:
        import sounddevice
    except OSError:
        raise UserError(
            "microphones are listened to through the library PortAudio, which is not installed (Debian and Ubuntu: "
            f"apt install libportaudio2; macOS: brew install portaudio). Install it, {_RECORD}"
        ) from None
    return sounddevice
