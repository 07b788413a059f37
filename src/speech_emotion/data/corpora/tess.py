"""TESS, the Toronto emotional speech set: 2 actresses, 7 emotions, 2,800 recordings.

Pichora-Fuller and Dupuis (2020), https://doi.org/10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from speech_emotion.config.data import DownloadSettings
from speech_emotion.data.corpora.base import Utterance
from speech_emotion.data.corpora.published import PublishedCorpus
from speech_emotion.data.download import Downloader, RemoteFile, list_dataverse

SERVER: Final = "https://borealisdata.ca"
DATASET: Final = "doi:10.5683/SP2/E8H2MF"

SPEAKERS: Final = {"OAF": "OAF", "OA": "OAF", "YAF": "YAF"}
"""Speaker by the first part of a name; one name in the original lacks its F."""

EMOTIONS: Final = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "pleasant_surprise",
    "sad": "sad",
}
"""Label by the last part of a name."""


class TessCorpus(PublishedCorpus):
    """The Toronto emotional speech set."""

    kind = "tess"
    title = "TESS"
    megabytes = 290
    pattern = rf"(?P<speaker>{'|'.join(SPEAKERS)})_(?P<text>[a-z]+)_(?P<emotion>{'|'.join(EMOTIONS)})"
    speakers = SPEAKERS
    women = frozenset(SPEAKERS.values())
    emotions = EMOTIONS

    @classmethod
    def parse_name(cls, path: Path) -> Utterance | None:
        """Return what a name such as ``OAF_fear/OAF_food_fear.wav`` says; None if it is none of TESS."""
        found = super().parse_name(path)
        return found and replace(found, text=f"Say the word {found.text}")

    def remote_files(self, downloader: Downloader, settings: DownloadSettings) -> list[RemoteFile]:
        """Return the audio files of the dataset on a Dataverse server."""
        files = list_dataverse(downloader, settings.server or SERVER, settings.persistent_id or DATASET)
        return [file for file in files if file.name.lower().endswith(".wav") or file.content_type.startswith("audio/")]


CORPUS: Final = TessCorpus
