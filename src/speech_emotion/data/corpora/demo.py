"""A synthetic corpus with the file names of TESS, spoken offline by eSpeak NG.

eSpeak NG (https://github.com/espeak-ng/espeak-ng, GPL-3.0-or-later) comes with the wheel of `espeakng-loader` and runs
as a separate program, `data.espeak`. Its output is not a derivative of its code.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing_folder
from speech_emotion.core.parallel import core_count
from speech_emotion.core.progress import track
from speech_emotion.data import espeak
from speech_emotion.data.corpora.base import Utterance

WORDS: Final[tuple[str, ...]] = (
    *("back", "bean", "boat", "chair", "dog", "door", "fall", "gas", "home", "join"),
    *("kite", "learn", "moon", "name", "page", "rain", "ship", "team", "voice", "youth"),
)

VOICES: Final[Mapping[str, str]] = MappingProxyType({"SAF": "en-us+f4", "SBF": "en-us+f2"})
"""eSpeak voice by speaker: two synthetic female voices, as TESS has two actresses."""


@dataclass(frozen=True)
class Manner:
    """How an emotion is spoken: words per minute, pitch and its range (0 to 99, usually 50), volume (usually 100)."""

    rate: int
    pitch: int
    spread: int
    volume: int

    def varied(self, name: str) -> "Manner":
        """Return this manner with small changes that depend on the clip's name: no two words sound quite alike."""
        a, b, c, d = (byte / 127.5 - 1 for byte in hashlib.sha256(name.encode()).digest()[:4])
        return Manner(
            rate=round(self.rate * (1 + 0.05 * a)),
            pitch=min(99, max(0, round(self.pitch + 4 * b))),
            spread=min(99, max(0, round(self.spread + 5 * c))),
            volume=round(self.volume * (1 + 0.08 * d)),
        )


MANNERS: Final[Mapping[str, Manner]] = MappingProxyType(
    {
        "angry": Manner(rate=190, pitch=40, spread=85, volume=112),
        "disgust": Manner(rate=115, pitch=22, spread=45, volume=85),
        "fear": Manner(rate=240, pitch=85, spread=25, volume=70),
        "happy": Manner(rate=175, pitch=65, spread=90, volume=105),
        "neutral": Manner(rate=155, pitch=45, spread=30, volume=90),
        "pleasant_surprise": Manner(rate=135, pitch=92, spread=98, volume=100),
        "sad": Manner(rate=95, pitch=30, spread=8, volume=55),
    }
)


@dataclass(frozen=True)
class Clip:
    """One utterance of the corpus."""

    speaker: str
    emotion: str
    word: str

    @property
    def path(self) -> Path:
        """Path in the raw tree: `{speaker}_{emotion}/{speaker}_{word}_{emotion}.wav`, as in TESS."""
        ending = "ps" if self.emotion == "pleasant_surprise" else self.emotion
        return Path(f"{self.speaker}_{self.emotion}", f"{self.speaker}_{self.word}_{ending}.wav")

    @property
    def text(self) -> str:
        """The words spoken."""
        return f"Say the word {self.word}"


class DemoCorpus:
    """2 synthetic speakers x 7 emotions x 20 words; the bytes depend on neither order nor number of cores.

    Fewer `words` make a smaller corpus. `settings.source` is not used.
    """

    kind: Final = "demo"

    def __init__(
        self, settings: CorpusSettings, download: DownloadSettings | None = None, *, words: Sequence[str] = WORDS
    ) -> None:
        self.settings = settings
        self.words = tuple(words)

    def fetch(self, raw: Path) -> None:
        """Synthesize every clip into the folder `raw`; raise `UserError` if eSpeak NG does not run on this machine."""
        library = _library()
        # threads are enough: they wait for processes, which do the work
        with replacing_folder(raw) as temporary, ThreadPoolExecutor(max_workers=core_count()) as pool:
            clips = list(self.clips())
            for clip in clips:
                (temporary / clip.path).parent.mkdir(exist_ok=True)
            spoken = pool.map(lambda clip: speak_clip(clip, temporary / clip.path, library), clips)
            for _ in track(spoken, len(clips), "synthesizing", "clips"):
                pass

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return every utterance, ordered by path."""
        clips = sorted(self.clips(), key=lambda clip: clip.path.as_posix())
        return [Utterance(path=clip.path, speaker=clip.speaker, emotion=clip.emotion, text=clip.text) for clip in clips]

    def clips(self) -> Iterator[Clip]:
        """Yield every clip of the corpus."""
        for speaker in VOICES:
            for emotion in MANNERS:
                for word in self.words:
                    yield Clip(speaker, emotion, word)


def speak_clip(clip: Clip, target: Path, library: str) -> None:
    """Synthesize one clip in a process of its own as 16-bit WAV; raise `UserError` if eSpeak NG does not run."""
    manner = MANNERS[clip.emotion].varied(clip.path.stem)
    numbers = map(str, (manner.rate, manner.pitch, manner.spread, manner.volume))
    # -I -S: without the environment and site-packages, which would cost a second of imports per clip
    script = [sys.executable, "-I", "-S", espeak.__file__]
    command = [*script, str(target), library, VOICES[clip.speaker], clip.text, *numbers]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if result.returncode != 0:
        why = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        raise UserError(
            f"the demo corpus cannot be made: eSpeak NG does not run on this machine ({why}). "
            "Reinstall espeakng-loader, or choose another corpus.kind in params.yaml."
        )


def _library() -> str:
    try:
        import espeakng_loader
    except ImportError:
        raise UserError("the demo corpus needs espeakng-loader, which is not installed. Run `make setup`.") from None
    return str(espeakng_loader.get_library_path())


CORPUS: Final = DemoCorpus
