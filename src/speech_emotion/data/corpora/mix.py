"""Several corpora as one. Each is a sub-folder of `corpus.source`, or is downloaded."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.io import replacing_folder
from speech_emotion.data.corpora import open_corpus
from speech_emotion.data.corpora.base import Utterance


class MixCorpus:
    """The corpora that `corpus.corpora` names. Speakers, paths and ids begin with the name of their corpus."""

    kind: Final = "mix"

    def __init__(self, settings: CorpusSettings, download: DownloadSettings | None = None) -> None:
        self.members = {name: open_corpus(settings.member(name), download) for name in settings.corpora}

    def fetch(self, raw: Path) -> None:
        """Fill one sub-folder of `raw` for each corpus: all of them, or none."""
        with replacing_folder(raw) as temporary:
            for name, corpus in self.members.items():
                corpus.fetch(temporary / name)

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return the utterances of every corpus, ordered by path."""
        found = [
            replace(one, path=name / one.path, speaker=one.speaker and f"{name}/{one.speaker}", corpus=name)
            for name, corpus in self.members.items()
            for one in corpus.utterances(raw / name)
        ]
        return sorted(found, key=lambda one: one.path)


CORPUS: Final = MixCorpus
