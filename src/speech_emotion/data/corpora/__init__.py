"""Open the corpus that params.yaml names. Each kind is a module here with `CORPUS`, and has a section in facts.toml."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module, resources

from speech_emotion.config.data import CorpusName, CorpusSettings, DownloadSettings
from speech_emotion.data.corpora.base import Corpus, CorpusFacts


def open_corpus(corpus: CorpusSettings, download: DownloadSettings | None = None) -> Corpus:
    """Return the corpus that `corpus.kind` names; only `fetch` needs the settings of the download."""
    opened: Corpus = import_module(f"{__name__}.{corpus.kind}").CORPUS(corpus, download)
    return opened


def facts(kind: CorpusName, corpora: Sequence[str] = ()) -> CorpusFacts:
    """Return title, licences and the texts of the model card for a kind of corpus.

    `corpora` are those of a mix; its texts are theirs, one after the other.
    """
    texts = tomllib.loads((resources.files(__name__) / "facts.toml").read_text(encoding="utf-8"))
    found = CorpusFacts(**texts[kind])
    members = {name: CorpusFacts(**texts[CorpusSettings.kind_of(name)]) for name in corpora}
    if not members:
        return found

    def joined(field: str, separator: str = "\n\n") -> str:
        return separator.join(dict.fromkeys(getattr(one, field) for one in members.values()))

    return replace(
        found,
        licence=joined("licence", " + "),
        weights_licence=f"{found.weights_licence}\n\n{joined('weights_licence')}",
        limits="\n\n".join(f"In `{name}`:\n\n{one.limits}" for name, one in members.items()),
        data=joined("data"),
        card_licence=f"{found.card_licence}\n\n{joined('card_licence')}",
    )
