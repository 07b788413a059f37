"""CREMA-D: 43 actresses and 48 actors, 6 emotions, 7,442 recordings.

Cao et al. (2014), https://doi.org/10.1109/TAFFC.2014.2336244, ODbL 1.0 and DbCL 1.0.
"""

from pathlib import PurePosixPath
from typing import Final

from speech_emotion.config.data import DownloadSettings
from speech_emotion.data.corpora.published import PublishedCorpus
from speech_emotion.data.download import Downloader, RemoteFile

SERVER: Final = "https://media.githubusercontent.com"

EMOTIONS: Final = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
WOMEN: Final = (
    *(1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025),
    *(1028, 1029, 1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060),
    *(1061, 1063, 1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091),
)
"""From VideoDemographics.csv of the corpus."""

TEXTS: Final = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}


class CremaDCorpus(PublishedCorpus):
    """The crowd-sourced emotional multimodal actors dataset: the audio."""

    kind = "crema_d"
    title = "CREMA-D"
    megabytes = 610
    pattern = rf"(?P<speaker>1\d{{3}})_(?P<text>{'|'.join(TEXTS)})_(?P<emotion>{'|'.join(EMOTIONS)})_(?:LO|MD|HI|XX?)"
    women = frozenset(map(str, WOMEN))
    emotions = EMOTIONS
    texts = TEXTS

    def plain(self, path: str) -> str:
        """Return the file name; some copies have ``1040_ITH_SAD_X.wav`` for ``1040_ITH_SAD_XX.wav``."""
        return super().plain(path).replace("_sad_x.wav", "_sad_xx.wav")

    def remote_files(self, downloader: Downloader, settings: DownloadSettings) -> list[RemoteFile]:
        """Return each recording, from Git LFS."""
        base = f"{settings.server or SERVER}/media/CheyneyComputerScience/CREMA-D/master/AudioWAV"
        return [
            RemoteFile(f"{base}/{PurePosixPath(path).name}", path, checksum=f"sha256:{digest}")
            for path, digest in self.checksums.items()
        ]


CORPUS: Final = CremaDCorpus
