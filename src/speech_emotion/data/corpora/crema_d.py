"""CREMA-D: 43 actresses and 48 actors, 6 emotions, 7,442 recordings.

Cao et al. (2014), https://doi.org/10.1109/TAFFC.2014.2336244, ODbL 1.0 and DbCL 1.0.
"""

from pathlib import PurePosixPath
from typing import Final

from speech_emotion.config.data import DownloadSettings
from speech_emotion.data.corpora.base import CorpusFacts
from speech_emotion.data.corpora.published import PublishedCorpus, acted_limits, weights_licence
from speech_emotion.data.download import Downloader, RemoteFile

SERVER: Final = "https://media.githubusercontent.com"

EMOTIONS: Final = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
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

FACTS: Final = CorpusFacts(
    title="CREMA-D: 91 actors, 6 emotions, 7,442 recordings (doi:10.1109/TAFFC.2014.2336244)",
    licence="ODbL 1.0, DbCL 1.0",
    not_here="not here: `dvc repro` downloads it (about 610 MB), unless corpus.source or CREMA_D_DIR names a copy",
    weights_licence=weights_licence(
        "the crowd-sourced emotional multimodal actors dataset (CREMA-D) and are licensed under [ODbL "
        "1.0](https://opendatacommons.org/licenses/odbl/1-0/): credit as below",
        "CREMA-D: Houwei Cao et al., 2014, https://doi.org/10.1109/TAFFC.2014.2336244, ODbL 1.0 and DbCL 1.0",
    ),
    caveat="**The data is 91 actors and twelve sentences.**",
    limits=acted_limits(
        "91 actors from the United States, 20 to 74 years old", "Twelve sentences, the same with every emotion"
    ),
    data="CREMA-D: 7,442 recordings, 315 minutes, 91 actors, six emotions, twelve sentences.",
    card_licence="Weights: ODbL 1.0; see `LICENSE.md`. CREMA-D: Cao et al., 2014, ODbL 1.0 and DbCL 1.0.",
)
