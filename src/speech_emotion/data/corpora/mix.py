"""Several corpora as one. Each is a sub-folder of `corpus.source`, or is downloaded."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.core.io import replacing_folder
from speech_emotion.data.corpora import facts, open_corpus
from speech_emotion.data.corpora.base import CorpusFacts, Utterance


class MixCorpus:
    """The corpora that `corpus.corpora` names. Speakers, paths and ids begin with the name of their corpus."""

    kind: Final = "mix"

    def __init__(self, settings: CorpusSettings, download: DownloadSettings | None = None) -> None:
        self.members = {name: open_corpus(settings.member(name), download) for name in settings.corpora}

    def fetch(self, raw: Path) -> None:
        """Fill one sub-folder of `raw` for each corpus: all of them, or none."""
        with replacing_folder(raw) as aside:
            for name, corpus in self.members.items():
                corpus.fetch(aside / name)

    def utterances(self, raw: Path) -> list[Utterance]:
        """Return the utterances of every corpus, ordered by path."""
        found = [
            replace(one, path=name / one.path, speaker=one.speaker and f"{name}/{one.speaker}", corpus=name)
            for name, corpus in self.members.items()
            for one in corpus.utterances(raw / name)
        ]
        return sorted(found, key=lambda one: one.path)


CORPUS: Final = MixCorpus

FACTS: Final = CorpusFacts(
    title="several of these corpora, and folders of your own, as one",
    licence="those of its corpora",
    not_here="set up with corpus.corpora: see docs/own-corpus.md",
    weights_licence="",
    caveat="**The model knows several corpora of acted speech.**",
    limits="",
    data="",
    card_licence="",
)


def mixed_facts(corpora: Sequence[str]) -> CorpusFacts:
    """Return the facts of a mix: the texts of its corpora, one after the other."""
    members = [facts(CorpusSettings.kind_of(name)) for name in corpora]
    texts = {
        field.name: "\n\n".join(dict.fromkeys(getattr(one, field.name) for one in members))
        for field in fields(CorpusFacts)
    }
    return replace(
        FACTS,
        licence=" + ".join(dict.fromkeys(one.licence for one in members)),
        weights_licence=texts["weights_licence"],
        limits=texts["limits"],
        data=texts["data"],
        card_licence=texts["card_licence"],
    )
