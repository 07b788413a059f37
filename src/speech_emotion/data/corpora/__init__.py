"""Open the corpus that params.yaml names."""

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.data.corpora.base import Corpus


def open_corpus(corpus: CorpusSettings, download: DownloadSettings | None = None) -> Corpus:
    """Return the corpus that `corpus.kind` names; only `fetch` needs the server in `download`."""
    # imported here, so that no corpus needs what only another one needs
    if corpus.kind == "tess":
        from speech_emotion.data.corpora.tess import TessCorpus

        return TessCorpus(corpus, download)
    if corpus.kind == "demo":
        from speech_emotion.data.corpora.demo import DemoCorpus

        return DemoCorpus(corpus)
    from speech_emotion.data.corpora.folder import FolderCorpus

    return FolderCorpus(corpus)
