"""Open the corpus that params.yaml names. Each kind of corpus is a module here with `CORPUS` and `FACTS`."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from speech_emotion.config.data import CorpusName, CorpusSettings, DownloadSettings
from speech_emotion.data.corpora.base import Corpus, CorpusFacts


def open_corpus(corpus: CorpusSettings, download: DownloadSettings | None = None) -> Corpus:
    """Return the corpus that `corpus.kind` names; only `fetch` needs the settings of the download."""
    opened: Corpus = _module(corpus.kind).CORPUS(corpus, download)
    return opened


def facts(kind: CorpusName, corpora: Sequence[str] = ()) -> CorpusFacts:
    """Return title, licences and the texts of the model card for a kind of corpus; `corpora` are those of a mix."""
    module = _module(kind)
    found: CorpusFacts = module.mixed_facts(corpora) if corpora else module.FACTS
    return found


def _module(kind: CorpusName) -> ModuleType:
    return import_module(f"{__name__}.{kind}")
