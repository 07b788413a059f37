"""Open the corpus that params.yaml names."""

from speech_emotion.config.data import CorpusSettings, DownloadSettings
from speech_emotion.data.corpora.base import Corpus


def open_corpus(corpus: CorpusSettings, download: DownloadSettings | None = None) -> Corpus:
    """Return the corpus that `corpus.kind` names.

    Parameters
    ----------
    corpus : CorpusSettings
        Which corpus, and where the user's copy lies.
    download : DownloadSettings or None
        The official server; only `fetch` asks it, so whoever reads nothing but `utterances` leaves it out.
    """
    # imported here, so that one corpus neither needs what another needs nor is rerun when that one's code changes
    if corpus.kind == "tess":
        from speech_emotion.data.corpora.tess import TessCorpus

        return TessCorpus(corpus, download)
    if corpus.kind == "demo":
        from speech_emotion.data.corpora.demo import DemoCorpus

        return DemoCorpus(corpus)
    from speech_emotion.data.corpora.folder import FolderCorpus

    return FolderCorpus(corpus)
