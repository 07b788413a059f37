"""SAVEE: 4 men, 7 emotions, 480 recordings.

Haq and Jackson (2009), http://kahlan.eps.surrey.ac.uk/savee/, for research; registration is required.
"""

from pathlib import PurePosixPath
from typing import Final

from speech_emotion.config.data import DownloadSettings
from speech_emotion.core.errors import UserError
from speech_emotion.data.corpora.published import PublishedCorpus, variable_of
from speech_emotion.data.download import Downloader, RemoteFile

EMOTIONS: Final = {
    "a": "angry",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprise",
}


TEXTS: Final = {f"{code}{number}": f"common sentence {number}" for code in EMOTIONS for number in ("01", "02", "03")}
"""Three sentences are said with every emotion. File names do not contain the text."""


class SaveeCorpus(PublishedCorpus):
    """The Surrey audio-visual expressed emotion database: the audio."""

    kind = "savee"
    title = "SAVEE"
    megabytes = 160
    pattern = r"(?P<speaker>DC|JE|JK|KL)[_/](?P<text>(?P<emotion>a|d|f|h|n|sa|su)\d\d)"
    women = frozenset()
    emotions = EMOTIONS
    texts = TEXTS

    def plain(self, path: str) -> str:
        """Return speaker and name, which copies write as ``DC_a01.wav`` or ``DC/a01.wav``."""
        *folders, name = PurePosixPath(path).parts
        return (name if "_" in name else f"{folders[-1] if folders else ''}_{name}").casefold()

    def remote_files(self, downloader: Downloader, settings: DownloadSettings) -> list[RemoteFile]:
        """Raise `UserError`: the corpus cannot be downloaded without registration."""
        raise UserError(
            "SAVEE cannot be downloaded without registration. Register at http://kahlan.eps.surrey.ac.uk/savee/, and "
            f"name the folder or zip in {variable_of(self.kind)} or as corpus.source in params.yaml."
        )


CORPUS: Final = SaveeCorpus
