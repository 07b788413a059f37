"""Open the corpus that params.yaml names. Each kind of corpus is a module here with `CORPUS` and `FACTS`."""

from importlib import import_module
from types import ModuleType

from speech_emotion.config.data import CorpusName, CorpusSettings, DownloadSettings
from speech_emotion.data.corpora.base import Corpus, CorpusFacts


def open_corpus(corpus: CorpusSettings, download: DownloadSettings | None = None) -> Corpus:
    """Return the corpus that `corpus.kind` names; only `fetch` needs the settings of the download."""
    opened: Corpus = _module(corpus.kind).CORPUS(corpus, download)
    return opened


def facts(kind: CorpusName) -> CorpusFacts:
    """Return title, licences and the texts of the model card for a kind of corpus."""
    found: CorpusFacts = _module(kind).FACTS
    return found


def _module(kind: CorpusName) -> ModuleType:
    return import_module(f"{__name__}.{kind}")
