"""Several corpora as one. Each is a sub-folder of `corpus.source`, or is downloaded."""

from collections.abc import Sequence
from dataclasses import replace
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

FACTS: Final = CorpusFacts(
    title="several of these corpora, and folders of your own, as one",
    licence="those of its corpora",
    not_here="set up with corpus.corpora: see docs/own-corpus.md",
    weights_licence=(
        "The weights were trained on several corpora. All terms below apply together: research use only, no "
        "commercial use if one of them forbids it, and credit to every corpus.\n\n"
        "Some corpora forbid derivatives (ND) or ask for the same licence (SA). It is not settled whether weights are "
        "derived from recordings in this sense. This was weighed: the package contains no recording, and none can be "
        "restored from it. To train without a corpus, take it out of `corpus.corpora` in presets/voices.yaml, one "
        "line, and run `make voices`."
    ),
    caveat="**The model knows the speakers, sentences and rooms of its corpora**, in which actors played each emotion.",
    limits="",
    data="",
    card_licence="",
)


def mixed_facts(corpora: Sequence[str]) -> CorpusFacts:
    """Return the facts of a mix: the texts of its corpora, one after the other."""
    members = {name: facts(CorpusSettings.kind_of(name)) for name in corpora}

    def joined(field: str) -> str:
        return "\n\n".join(dict.fromkeys(getattr(one, field) for one in members.values()))

    return replace(
        FACTS,
        licence=" + ".join(dict.fromkeys(one.licence for one in members.values())),
        weights_licence=f"{FACTS.weights_licence}\n\n{joined('weights_licence')}",
        limits="\n\n".join(f"In `{name}`:\n\n{one.limits}" for name, one in members.items()),
        data=joined("data"),
        card_licence=joined("card_licence"),
    )
