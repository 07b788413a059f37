"""EmoDB, the Berlin database of emotional speech: 5 women and 5 men, 7 emotions, 535 recordings, German.

Burkhardt et al. (2005), http://emodb.bilderbar.info, CC0 according to audb.
"""

from typing import Final

from speech_emotion.config.data import DownloadSettings
from speech_emotion.data.corpora.published import PublishedCorpus
from speech_emotion.data.download import Downloader, RemoteFile

SERVER: Final = "http://emodb.bilderbar.info"

EMOTIONS: Final = {"A": "fear", "E": "disgust", "F": "happy", "L": "boredom", "N": "neutral", "T": "sad", "W": "angry"}
TEXTS: Final = {
    "a01": "Der Lappen liegt auf dem Eisschrank",
    "a02": "Das will sie am Mittwoch abgeben",
    "a04": "Heute abend könnte ich es ihm sagen",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück",
    "a07": "In sieben Stunden wird es soweit sein",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen",
}


class EmodbCorpus(PublishedCorpus):
    """The Berlin database of emotional speech."""

    kind = "emodb"
    title = "EmoDB"
    megabytes = 41
    pattern = rf"(?P<speaker>\d\d)(?P<text>{'|'.join(TEXTS)})(?P<emotion>[{''.join(EMOTIONS)}])[a-z]"
    """Speaker, text, emotion, version."""
    women = frozenset({"08", "09", "13", "14", "16"})
    emotions = EMOTIONS
    texts = TEXTS

    def remote_files(self, downloader: Downloader, settings: DownloadSettings) -> list[RemoteFile]:
        """Return the one zip. It has no published checksum; its size lets an interrupted download resume."""
        url = f"{settings.server or SERVER}/download/download.zip"
        return [RemoteFile(url, "download.zip", size=downloader.size(url))]


CORPUS: Final = EmodbCorpus
