"""Explain the packaged model: its layers, what carries a prediction, similar utterances, and most confident errors.

Everything but the errors is measured on validation utterances of `full`, from their recordings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import seaborn
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.core.io import replacing, replacing_folder
from speech_emotion.data.splits import VALIDATION
from speech_emotion.evaluation import occlusion
from speech_emotion.evaluation.plots import COLOURS, drawing, words
from speech_emotion.features.mfcc import names
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.summary import read_layers

_MARKS: Final = "osD^vP*X"
"""One marker per label, in addition to its colour."""

ERRORS_LISTED: Final = 25
"""Per protocol."""

ERROR_COLUMNS: Final = ["protocol", "fold", "id", "speaker", "text", "emotion", "prediction", "confidence", "p_emotion"]


def explain(
    target: Path,
    *,
    recordings: pd.DataFrame,
    raw: Path,
    package: Path,
    predictions: Mapping[str, pd.DataFrame],
    settings: ExplainSettings,
) -> None:
    """Write tables and figures to the folder `target`.

    Parameters
    ----------
    target : Path
        `network.csv`, `occlusion.csv` and `.png`, `embeddings.csv` and `.png`, `neighbours.csv`, `errors.csv`.
    recordings : pd.DataFrame [columns=(id, path, speaker, emotion, text, part, ...)]
        From audio_stats.csv.
    raw : Path
        The folder of recordings.
    package : Path
    predictions : mapping of str to pd.DataFrame
        predictions.csv of each protocol with a test part.
    settings : ExplainSettings
    """
    recognizer = Recognizer.load(package)
    rows = sample(recordings, settings)
    # the bits of a matrix product depend on the number of threads
    with replacing_folder(target) as folder, threadpool_limits(limits=1):
        frames = [recognizer.frames(raw / path) for path in rows["path"]]
        table = occlusions(recognizer, frames)
        points, neighbours = embeddings(recognizer, rows, frames, seed=settings.seed)
        layers = [(one.kind, one.detail, one.output, one.parameters) for one in read_layers(package)]
        _write(folder / "network.csv", pd.DataFrame(layers, columns=["layer", "detail", "output", "weights"]))
        _write(folder / "occlusion.csv", table)
        _write(folder / "embeddings.csv", points)
        _write(folder / "neighbours.csv", neighbours)
        _write(folder / "errors.csv", errors(predictions))
        draw_occlusion(folder / "occlusion.png", table, recognizer.labels)
        draw_embeddings(folder / "embeddings.png", points, recognizer.labels)


def sample(recordings: pd.DataFrame, settings: ExplainSettings) -> pd.DataFrame:
    """Return at most `settings.utterances` validation utterances of each emotion and speaker, sorted by id."""
    rng = np.random.default_rng(settings.seed)
    rows = recordings[recordings["part"] == VALIDATION].sort_values("id")
    chosen = {
        name
        for _, part in rows.groupby(["speaker", "emotion"], sort=True)
        for name in rng.permutation(part["id"].to_numpy())[: settings.utterances]
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


def draw_occlusion(path: Path, table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the table of `occlusions`. Red: the hidden piece supported the prediction; blue: it opposed it."""
    groups = table.loc[table["hidden"] == "features", "piece"].nunique()
    with drawing(path, width=11.5, height=0.36 * len(labels) + 2.1) as figure:
        figure.suptitle("Loss of confidence when a piece is hidden")
        panels = figure.subplots(1, 2, width_ratios=[10, max(groups, 4)])
        for axes, hidden in zip(panels, ("time", "features"), strict=True):
            part = table[table["hidden"] == hidden]
            values = part.pivot(index="emotion", columns="piece", values="log_odds")
            values = values.reindex(index=list(labels), columns=list(dict.fromkeys(part["piece"])))
            # the two kinds of pieces have unequal sizes, so each has its own scale
            high = float(part["log_odds"].abs().max()) or 1.0
            colours: Any = {
                "cmap": "RdBu_r",
                "vmin": -high,
                "vmax": high,
                "cbar_kws": {"label": "log-odds lost (nats)"},
            }
            seaborn.heatmap(values.round(1) + 0.0, annot=True, fmt=".1f", yticklabels=False, ax=axes, **colours)
            axes.set_facecolor("#cccccc")
        counts = table.drop_duplicates("emotion").set_index("emotion")["utterances"]
        names = [f"{words(one)} ({counts.get(one, 0)})" for one in labels]
        panels[0].set_yticks(np.arange(len(labels)) + 0.5, names)
        panels[0].set(xlabel="hidden tenth of the utterance", ylabel="predicted (utterances)")
        panels[1].set(xlabel="hidden group of features", ylabel="")
        panels[1].tick_params(axis="x", labelrotation=30)


def draw_embeddings(path: Path, points: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the map of the last layer, coloured by emotion and by speaker."""
    speakers = sorted(set(points["speaker"]))
    with drawing(path, width=10.5, height=4.2) as figure:
        figure.suptitle("Similar utterances (t-SNE of the last layer)")
        for axes, name, values in zip(figure.subplots(1, 2), ("emotion", "speaker"), (labels, speakers), strict=True):
            for number, value in enumerate(values):
                chosen = points[points[name] == value]
                colour, mark = COLOURS[number % len(COLOURS)], _MARKS[number % len(_MARKS)]
                label = words(value) or "unknown"
                axes.scatter(chosen["x"], chosen["y"], s=9, lw=0, alpha=0.8, color=colour, marker=mark, label=label)
            axes.set(xticks=[], yticks=[], title=f"by {name}")
            axes.grid(visible=False)
            if len(values) <= 2 * len(COLOURS):
                axes.legend(title=name, loc="center left", bbox_to_anchor=(1.02, 0.5), markerscale=2.2)


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
