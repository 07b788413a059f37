"""Recognise published corpora by the names of their recordings, in a folder of the user's own."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.corpora.crema_d import CremaDCorpus
from speech_emotion.data.corpora.emodb import EmodbCorpus
from speech_emotion.data.corpora.published import PublishedCorpus
from speech_emotion.data.corpora.ravdess import RavdessCorpus
from speech_emotion.data.corpora.savee import SaveeCorpus

KNOWN: Final[tuple[type[PublishedCorpus], ...]] = (RavdessCorpus, CremaDCorpus, EmodbCorpus, SaveeCorpus)


def recognise(recordings: Iterable[Path]) -> tuple[str, list[Utterance]] | None:
    """Return a corpus's name and utterances if all recordings are named as it names them."""
    paths = list(recordings)
    for corpus in KNOWN:
        utterances = [one for path in paths if (one := corpus.parse_name(path)) is not None]
        if paths and len(utterances) == len(paths):
            return corpus.title, utterances
    return None
