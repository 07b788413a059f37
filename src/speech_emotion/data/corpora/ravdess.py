"""RAVDESS, speech part: 12 actresses and 12 actors, 8 emotions, 1,440 recordings.

Livingstone and Russo (2018), https://doi.org/10.5281/zenodo.1188976, CC BY-NC-SA 4.0.
"""

from typing import Final

from speech_emotion.config.data import DownloadSettings
from speech_emotion.data.corpora.published import PublishedCorpus
from speech_emotion.data.download import Downloader, RemoteFile

SERVER: Final = "https://zenodo.org"
ARCHIVE: Final = "Audio_Speech_Actors_01-24.zip"
SIZE: Final = 208_468_073
MD5: Final = "bc696df654c87fed845eb13823edef8a"

EMOTIONS: Final = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
TEXTS: Final = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}


class RavdessCorpus(PublishedCorpus):
    """The Ryerson audio-visual database of emotional speech and song: audio-only speech."""

    kind = "ravdess"
    title = "RAVDESS"
    megabytes = 208
    pattern = r"0[1-3]-0[12]-(?P<emotion>0[1-8])-0[12]-(?P<text>0[12])-0[12]-(?P<speaker>\d\d)"
    """Modality, channel, emotion, intensity, statement, repetition, actor."""
    women = frozenset(f"{number:02}" for number in range(2, 25, 2))
    emotions = EMOTIONS
    texts = TEXTS

    def remote_files(self, downloader: Downloader, settings: DownloadSettings) -> list[RemoteFile]:
        """Return the one zip of the speech part."""
        url = f"{settings.server or SERVER}/records/1188976/files/{ARCHIVE}?download=1"
        return [RemoteFile(url, ARCHIVE, SIZE, f"md5:{MD5}")]


CORPUS: Final = RavdessCorpus
