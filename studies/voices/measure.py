"""recordings + manifest + the settings of pseudo-speakers → whom a speaker encoder takes the pseudo-speakers for.

    python studies/voices/measure.py data/tess/raw data/tess/manifest/manifest.csv reports/tess/voices

It needs Resemblyzer, as README.md beside this file says: an encoder that was trained on thousands of speakers to tell
them apart (Wan et al., "Generalized end-to-end loss for speaker verification", 2018). Nothing else here does.

Every voice, recorded or made, is enrolled with some words, and other words of every voice are held against it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from speech_emotion.audio import decode
from speech_emotion.corpora import manifest as manifests
from speech_emotion.errors import UserError
from speech_emotion.figures import drawing
from speech_emotion.files import replacing_folder
from speech_emotion.impersonation import Impersonated
from speech_emotion.progress import track
from speech_emotion.settings.base import read_section
from speech_emotion.settings.pseudo_speakers import PseudoSpeakersSettings
from speech_emotion.stage import run_stage

SAMPLE_RATE: Final = 16_000
"""Hz; the encoder's."""
WORDS: Final = 42
"""Of each voice: every other one is enrolled, and each emotion comes up as often."""

Encoder = Callable[[np.ndarray], np.ndarray]
"""A waveform at SAMPLE_RATE → a direction of length 1."""


@dataclass(frozen=True)
class Voice:
    """Somebody who speaks: a recorded speaker, or a pseudo-speaker made of one."""

    speaker: str
    made: Impersonated | None = None

    @property
    def name(self) -> str:
        """How tables and picture call it."""
        return self.speaker if self.made is None else f"{self.speaker} as {self.made.settings.name}"


def main() -> None:
    """Hold every voice against every voice, and write tables and a picture."""
    raw, manifest, target = map(Path, sys.argv[1:])
    rows = manifests.read(manifest)
    encoder = _encoder()
    voices = _voices(rows, read_section("pseudo_speakers", PseudoSpeakersSettings))
    heard = {
        voice.name: np.stack([encoder(wave) for wave in _spoken(voice, rows, raw)])
        for voice in track(voices, len(voices), "voices", "voices")
    }
    similarities = {
        (enrolled, asked): heard[asked][1::2] @ _centre(heard[enrolled][::2]) for enrolled in heard for asked in heard
    }
    threshold, error = _equal_error({voice.name for voice in voices if voice.made is None}, similarities)
    table = _table(voices, similarities, threshold)
    with replacing_folder(target) as folder:
        table.round(4).to_csv(folder / "voices.csv", index=False, lineterminator="\n")
        _draw(folder / "similarity.png", list(heard), similarities)
        (folder / "table.md").write_text(_words(table, threshold, error), encoding="utf-8")
    print(f"voices: threshold {threshold:.3f} at an equal error rate of {error:.1%}; {target}")


def _encoder() -> Encoder:
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError as error:
        raise UserError(f"{error}: studies/voices/README.md says how to install Resemblyzer.") from None
    encoder = VoiceEncoder("cpu", verbose=False)

    def encode(waveform: np.ndarray) -> np.ndarray:
        # which brings every voice to one level, and leaves silence out
        found: np.ndarray = encoder.embed_utterance(preprocess_wav(waveform, source_sr=SAMPLE_RATE))
        return found

    return encode


def _voices(rows: pd.DataFrame, settings: PseudoSpeakersSettings) -> list[Voice]:
    emotions = dict(zip(rows["id"], rows["emotion"], strict=True))
    made = [Impersonated(one, settings.seed, settings.acting, emotions) for one in settings.voices]
    speakers = sorted(set(rows["speaker"]))
    return [*map(Voice, speakers), *(Voice(speaker, one) for speaker in speakers for one in made)]


def _spoken(voice: Voice, rows: pd.DataFrame, raw: Path) -> list[np.ndarray]:
    """Return the voice's utterances, other words and other emotions one after the other, at SAMPLE_RATE."""
    own = rows[rows["speaker"] == voice.speaker].set_index(["text", "emotion"])
    texts, emotions = (sorted(set(rows[column])) for column in ("text", "emotion"))
    found = []
    for number in range(WORDS):
        # two words with each emotion in turn, so that both halves have all of them
        row = own.loc[(texts[number * len(texts) // WORDS], emotions[number // 2 % len(emotions)])]
        sound = decode(raw / row["path"])
        found.append(
            sound.mono(SAMPLE_RATE) if voice.made is None else voice.made.waveform(sound, row["id"], SAMPLE_RATE)
        )
    return found


def _centre(directions: np.ndarray) -> np.ndarray:
    mean = directions.mean(axis=0)
    found: np.ndarray = mean / np.linalg.norm(mean)
    return found


def _equal_error(recorded: set[str], similarities: dict[tuple[str, str], np.ndarray]) -> tuple[float, float]:
    """Return the threshold at which recorded speakers are missed as often as they are mistaken, and how often."""
    pairs = {pair: found for pair, found in similarities.items() if set(pair) <= recorded}
    truth = np.concatenate([np.full(len(found), pair[0] == pair[1]) for pair, found in pairs.items()])
    mistaken, found, thresholds = roc_curve(truth, np.concatenate(list(pairs.values())))
    # where several do equally well, the middle of them
    gaps = np.abs(mistaken - (1 - found))
    best = np.flatnonzero(gaps == gaps.min())
    return float(np.mean(thresholds[best])), float(np.mean((mistaken + 1 - found)[best]) / 2)


def _table(voices: list[Voice], similarities: dict[tuple[str, str], np.ndarray], threshold: float) -> pd.DataFrame:
    """Return a row a voice: its similarity to itself, to who it was made of, and to whom else."""
    recorded = [voice.name for voice in voices if voice.made is None]
    rows: list[dict[str, Any]] = []
    for voice in voices:
        source = similarities[voice.speaker, voice.name]
        others = np.concatenate([similarities[name, voice.name] for name in recorded if name != voice.speaker])
        rows.append(
            {
                "voice": voice.name,
                "itself": similarities[voice.name, voice.name].mean(),
                "source": source.mean(),
                "others": others.mean(),
                "taken_for_source": (source >= threshold).mean(),
                "taken_for_itself": (similarities[voice.name, voice.name] >= threshold).mean(),
            }
        )
    return pd.DataFrame(rows)


def _draw(path: Path, names: list[str], similarities: dict[tuple[str, str], np.ndarray]) -> None:
    means = np.array([[similarities[enrolled, asked].mean() for asked in names] for enrolled in names])
    with drawing(path, width=8.5, height=7.2) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(means, cmap="cividis")
        for (row, column), value in np.ndenumerate(means):
            dark = value < (means.min() + means.max()) / 2
            axes.text(column, row, f"{value:.2f}"[1:], ha="center", va="center", size=7, color="w" if dark else "k")
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="asked about, with other words", ylabel="enrolled")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, shrink=0.7, label="mean cosine similarity of speaker embeddings")


def _words(table: pd.DataFrame, threshold: float, error: float) -> str:
    lines = [
        "| voice | to itself | to its source | to the others recorded | taken for its source |",
        "|---|---|---|---|---|",
        *(
            f"| {row.voice} | {row.itself:.2f} | {row.source:.2f} | {row.others:.2f} | {row.taken_for_source:.0%} |"
            for row in table.itertuples()
        ),
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"Mean cosine similarity of speaker embeddings, {WORDS // 2} utterances enrolled and as many others asked "
            f"about. Taken for its source: at {threshold:.2f} and above, where recorded speakers are missed as often "
            f"as they are mistaken ({error:.1%}).",
            "",
        ]
    )


if __name__ == "__main__":
    run_stage(main)
