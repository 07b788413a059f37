"""TESS, the Toronto emotional speech set: 2 actresses, 7 emotions, 2,800 recordings.

Pichora-Fuller and Dupuis (2020), https://doi.org/10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from speech_emotion.config.data import DownloadSettings
from speech_emotion.data.corpora.base import CorpusFacts, Utterance
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

FACTS: Final = CorpusFacts(
    title="Toronto emotional speech set: 2 actresses, 7 emotions, 2,800 recordings (doi:10.5683/SP2/E8H2MF)",
    licence="CC BY-NC-ND 4.0",
    not_here="not here: `make tess` downloads it (about 290 MB), unless corpus.source or TESS_DIR names a copy",
    weights_licence=(
        "The weights were trained on the Toronto emotional speech set (TESS) and are licensed under [CC BY-NC "
        "4.0](https://creativecommons.org/licenses/by-nc/4.0/): no commercial use, and credit as below.\n"
        "\n"
        "TESS: M. Kathleen Pichora-Fuller and Kate Dupuis, University of Toronto, 2020, "
        "https://doi.org/10.5683/SP2/E8H2MF, under [CC BY-NC-ND "
        "4.0](https://creativecommons.org/licenses/by-nc-nd/4.0/). This package contains none of its recordings, "
        "and none can be restored from it."
    ),
    caveat=(
        "**The data is two actresses and one carrier phrase.** It supports no claim about other people, other "
        "sentences or felt emotion."
    ),
    limits=(
        "* **Other people.** Two women from the Toronto area, native speakers of English, 64 and 26 years old. No"
        " men, no children, no other accent or language.\n"
        "* **Felt emotion.** Both acted each emotion on demand, 200 times.\n"
        "* **Free speech.** Every recording is “Say the word …” and one word, the same words with every emotion.\n"
        "* **Rooms, telephones, noise, crosstalk.** All recordings are quiet and close; level and duration alone "
        "predict many of the emotions.\n"
        "* **Other or mixed emotions.** Seven labels, one per recording; one of them is always predicted.\n"
        "* **Unbiased figures for an unseen speaker.** The recipe was found with the left-out actress seen, so "
        "they are optimistic. `docs/experiments.md` and `docs/test-set-evaluations.csv` list every test-set "
        "evaluation."
    ),
    data=(
        "The Toronto emotional speech set (TESS): 2,800 recordings, 96 minutes, two actresses, seven emotions, "
        "200 words each; see `docs/data-sheet.md`."
    ),
    card_licence=(
        "Weights: CC BY-NC 4.0, non-commercial; see `LICENSE.md`. TESS: M. Kathleen Pichora-Fuller and Kate "
        "Dupuis, 2020, doi:10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0."
    ),
)
