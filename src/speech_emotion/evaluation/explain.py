"""Explain the packaged model: its layers, what carries a prediction, similar utterances, and most confident errors.

Everything but the errors is measured on validation utterances of `full`, from their recordings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.core.io import replacing, replacing_folder
from speech_emotion.data.splits import VALIDATION
from speech_emotion.evaluation import explain_plots, occlusion
from speech_emotion.features.mfcc import names
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.summary import read_layers

ERRORS_LISTED: Final = 25
"""Per protocol."""

ERROR_COLUMNS: Final = ["protocol", "fold", "id", "speaker", "text", "emotion", "prediction", "confidence", "p_emotion"]


@dataclass(frozen=True)
class Explained:
    """What is explained.

    Attributes
    ----------
    recordings : pd.DataFrame [columns=(id, path, speaker, emotion, text, part, ...)]
        From audio_stats.csv.
    raw : Path
        The folder of recordings.
    package : Path
    predictions : mapping of str to pd.DataFrame
        predictions.csv of each protocol with a test part.
    settings : ExplainSettings
    """

    recordings: pd.DataFrame
    raw: Path
    package: Path
    predictions: Mapping[str, pd.DataFrame]
    settings: ExplainSettings


def explain(explained: Explained, target: Path) -> None:
    """Write tables and figures to the folder `target`.

    `network.csv`, `occlusion.csv` and `.png`, `embeddings.csv` and `.png`, `neighbours.csv`, `errors.csv`.
    """
    recognizer = Recognizer.load(explained.package)
    rows = sample(explained)
    # the bits of a matrix product depend on the number of threads
    with replacing_folder(target) as folder, threadpool_limits(limits=1):
        frames = [recognizer.frames(explained.raw / path) for path in rows["path"]]
        table = occlusions(recognizer, frames)
        points, neighbours = embeddings(recognizer, rows, frames, seed=explained.settings.seed)
        layers = [(one.kind, one.detail, one.output, one.parameters) for one in read_layers(explained.package)]
        _write(folder / "network.csv", pd.DataFrame(layers, columns=["layer", "detail", "output", "weights"]))
        _write(folder / "occlusion.csv", table)
        _write(folder / "embeddings.csv", points)
        _write(folder / "neighbours.csv", neighbours)
        _write(folder / "errors.csv", errors(explained.predictions))
        explain_plots.draw_occlusion(folder / "occlusion.png", table, recognizer.labels)
        explain_plots.draw_embeddings(folder / "embeddings.png", points, recognizer.labels)


def sample(explained: Explained) -> pd.DataFrame:
    """Return at most `settings.utterances` validation utterances of each emotion and speaker, sorted by id."""
    rng = np.random.default_rng(explained.settings.seed)
    rows = explained.recordings[explained.recordings["part"] == VALIDATION].sort_values("id")
    chosen = {
        name
        for _, part in rows.groupby(["speaker", "emotion"], sort=True)
        for name in rng.permutation(part["id"].to_numpy())[: explained.settings.utterances]
    }
    return rows[rows["id"].isin(chosen)].reset_index(drop=True)


def occlusions(recognizer: Recognizer, frames: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return what each tenth of an utterance and each group of features contributes, by predicted emotion.

    Returns
    -------
    pd.DataFrame [columns=(hidden, piece, emotion, utterances, log_odds, changed)]
        `log_odds` is the mean loss of log-odds in nats when the piece is replaced by the mean frame; `changed` the
        share of predictions that change.
    """
    columns = occlusion.groups(names(recognizer.package.description.features))
    mean_frame = np.concatenate(frames).mean(axis=0, dtype=np.float64).astype(np.float32)
    time = occlusion.occlude_time(recognizer, frames, mean_frame)
    features = occlusion.occlude_groups(recognizer, frames, mean_frame, columns)
    labels = recognizer.labels
    rows = [
        (hidden, piece, labels[number], int(own.sum()), found.lost[own, place].mean(), found.changed[own, place].mean())
        for hidden, pieces, found in (
            ("features", list(columns), features),
            ("time", [str(number + 1) for number in range(occlusion.TENTHS)], time),
        )
        for number in np.unique(found.predicted)
        for own in [found.predicted == number]
        for place, piece in enumerate(pieces)
    ]
    return pd.DataFrame(rows, columns=["hidden", "piece", "emotion", "utterances", "log_odds", "changed"])


def embeddings(
    recognizer: Recognizer, rows: pd.DataFrame, frames: Sequence[np.ndarray], *, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a map of the last layer, and the nearest neighbours in it.

    Returns
    -------
    points : pd.DataFrame [columns=(id, speaker, emotion, x, y)]
        By t-SNE (van der Maaten and Hinton, 2008). Nearby points are similar; long distances have no meaning.
    neighbours : pd.DataFrame [columns=(same_speaker, same_emotion, same_emotion_across_speakers)]
        In the layer itself: share of utterances whose nearest neighbour has the same speaker or emotion, and whose
        nearest neighbour among other speakers has the same emotion (empty with one speaker).
    """
    values = StandardScaler().fit_transform(recognizer.embed_frames(frames).astype(np.float64))
    perplexity = min(30, max(2, (len(rows) - 1) // 3))
    placed = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(values)
    points = rows[["id", "speaker", "emotion"]].assign(x=placed[:, 0], y=placed[:, 1])
    return points, pd.DataFrame([_neighbours(values, rows)])


def errors(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the most confident errors of each protocol's test part [columns=ERROR_COLUMNS]."""
    found = []
    for protocol, rows in predictions.items():
        wrong = rows[rows["emotion"] != rows["prediction"]]
        own = [float(row[f"p_{row['emotion']}"]) for _, row in wrong.iterrows()]
        wrong = wrong.assign(protocol=protocol, p_emotion=own)
        found.append(wrong.sort_values(["confidence", "id"], ascending=[False, True]).head(ERRORS_LISTED))
    return pd.concat(found)[ERROR_COLUMNS] if found else pd.DataFrame(columns=ERROR_COLUMNS)


def _neighbours(values: np.ndarray, rows: pd.DataFrame) -> dict[str, float]:
    speakers, emotions = rows["speaker"].to_numpy(), rows["emotion"].to_numpy()
    order = NearestNeighbors(n_neighbors=2).fit(values).kneighbors(values, return_distance=False)
    # with a duplicate, an utterance itself may come second
    nearest = np.where(order[:, 0] == np.arange(len(values)), order[:, 1], order[:, 0])
    across = []
    for speaker in sorted(set(speakers)):
        own = speakers == speaker
        if own.all():
            continue
        found = NearestNeighbors(n_neighbors=1).fit(values[~own]).kneighbors(values[own], return_distance=False)
        across.append(emotions[~own][found[:, 0]] == emotions[own])
    return {
        "same_speaker": float((speakers[nearest] == speakers).mean()),
        "same_emotion": float((emotions[nearest] == emotions).mean()),
        "same_emotion_across_speakers": float(np.concatenate(across).mean()) if across else float("nan"),
    }


def _write(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", float_format="%.4f")
