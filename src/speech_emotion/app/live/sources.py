"""Audio sources of a live session, the microphone or a file: iterate over one to get blocks as they arrive."""

import queue
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from speech_emotion.audio.decode import AudioError, decode
from speech_emotion.core.errors import UserError

BLOCK_SECONDS: Final = 0.05

_RECORD: Final = "or play a recording: --file clip.wav"


@dataclass(frozen=True)
class Block:
    """Audio that has just arrived, by `time.perf_counter`."""

    samples: np.ndarray
    arrived: float


class Played:
    """A file in real time, without playback."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.name, self.sample_rate = path.name, sample_rate
        try:
            self._samples = decode(path).mono(sample_rate)
        except AudioError as error:
            raise UserError(f"{path}: {error}") from None

    def __iter__(self) -> Iterator[Block]:
        size = round(BLOCK_SECONDS * self.sample_rate)
        began = time.perf_counter()
        for start in range(0, len(self._samples), size):
            samples = self._samples[start : start + size]
            due = began + (start + len(samples)) / self.sample_rate
            time.sleep(max(0.0, due - time.perf_counter()))
            # latency counts from when the audio was due, also on a slow machine
            yield Block(samples, due)


class Microphone:
    """A microphone, through PortAudio; `device` is its number or a part of its name."""

    def __init__(self, device: str | None = None) -> None:
        try:
            import sounddevice
        except OSError:
            raise UserError(
                "A microphone needs the library PortAudio, which is not installed (Debian and Ubuntu: "
                f"apt install libportaudio2; macOS: brew install portaudio). Install it, {_RECORD}"
            ) from None
        self._sounddevice: Any = sounddevice
        found = self._find(device)
        self.name, self.sample_rate = str(found["name"]), int(found["default_samplerate"])
        self._device = int(found["index"])
        self._blocks: queue.SimpleQueue[Block] = queue.SimpleQueue()

    def _find(self, device: str | None) -> dict[str, Any]:
        named = int(device) if device is not None and device.isdecimal() else device
        try:
            return dict(self._sounddevice.query_devices(named, "input"))
        except (ValueError, self._sounddevice.PortAudioError) as error:
            inputs = [one for one in self._sounddevice.query_devices() if one["max_input_channels"] > 0]
            listed = "; ".join(f"{one['index']}: {one['name']}" for one in inputs) or "none on this machine"
            raise UserError(f"No such microphone ({error}). Choose a --device ({listed}), {_RECORD}") from None

    def __iter__(self) -> Iterator[Block]:
        with closing(self._start()) as stream:
            while True:
                try:
                    yield self._blocks.get(timeout=1.0)
                except queue.Empty:
                    if not stream.active:
                        raise UserError(f"The microphone {self.name} was unplugged.") from None

    def _start(self) -> Any:
        try:
            stream = self._sounddevice.InputStream(
                samplerate=self.sample_rate,
                blocksize=round(BLOCK_SECONDS * self.sample_rate),
                device=self._device,
                channels=1,
                dtype="float32",
                callback=self._take,
            )
            stream.start()
        except self._sounddevice.PortAudioError as error:
            raise UserError(f"Cannot open microphone {self.name} ({error}). Use another --device, {_RECORD}") from None
        return stream

    def _take(self, samples: np.ndarray, count: int, when: Any, status: Any) -> None:
        """Put a block in the queue; PortAudio calls this from its own thread."""
        self._blocks.put(Block(samples[:, 0].copy(), time.perf_counter()))


Source: TypeAlias = Played | Microphone
