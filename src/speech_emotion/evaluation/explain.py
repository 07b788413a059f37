"""Takes a corpus, its splits, packages and predictions; gives the folder that shows what the model listens to.

Four questions: which piece of an utterance, and which features, carry an answer (occlusion); what lies near what in the
network's last layer, before training and after it; which answers were wrong and sure of it; and which labels are in
doubt. All of them are asked about utterances that the model in question has not learned from.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pandas as pd
from onnx import numpy_helper
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from speech_emotion.audio.decode import load
from speech_emotion.config.evaluation import ExplainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing, replacing_folder
from speech_emotion.data.splits import Fold
from speech_emotion.evaluation import explain_plots as figures
from speech_emotion.evaluation import label_issues, occlusion
from speech_emotion.evaluation.corpus_plots import choose_examples
from speech_emotion.features.store import FeatureStore
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.summary import read_layers
from speech_emotion.models.package import GRAPH, Package

KNOWN_VOICES: Final = ("word", "random", "full")
"""Protocols that judge a model on voices that it has learned from, the best first."""
NEW_VOICE: Final = "speaker"

SCOPES: Final[Mapping[str, str]] = {"known": "voices it has learned from", "new": "a voice it has never heard"}

ERRORS_LISTED: Final = 25
"""Of each protocol."""
ERRORS_DRAWN: Final = 8

_MAPPED_FOLDS: Final = 2
"""Folds of the speaker protocol that the map of embeddings shows at most."""
_WINDOW_SECONDS: Final = 0.2
_STEP_SECONDS: Final = 0.04


@dataclass(frozen=True)
class Case:
    """Everything that is explained.

    Attributes
    ----------
    manifest : pd.DataFrame
    raw : Path
        The tree of recordings.
    store : FeatureStore
    folds : mapping of str to list of Fold
        By protocol.
    models : Path
        Holds a package a protocol and fold.
    predictions : mapping of str to pd.DataFrame
        Each protocol's predictions.csv, of those that have a test part.
    settings : ExplainSettings
    workers : int or None
        Processes that read recordings; None: one a core. The result is the same.
    """

    manifest: pd.DataFrame
    raw: Path
    store: FeatureStore
    folds: Mapping[str, list[Fold]]
    models: Path
    predictions: Mapping[str, pd.DataFrame]
    settings: ExplainSettings
    workers: int | None = None

    @property
    def labels(self) -> list[str]:
        """The corpus's labels, in the order of every network's outputs."""
        return sorted(set(self.manifest["emotion"]))

    def recognizer(self, protocol: str, fold: Fold) -> Recognizer:
        """Load a fold's model."""
        return Recognizer.load(self.models / protocol / fold.name)

    def heard(self, recognizer: Recognizer) -> FeatureStore:
        """Return the features as far as a model hears them."""
        return self.store.narrowed(recognizer.package.description.features)

    @property
    def known_protocol(self) -> str | None:
        """The best of the protocols there are that judge a model on voices that it has learned from."""
        return next((name for name in KNOWN_VOICES if name in self.folds), None)

    def judged(self, protocol: str) -> list[tuple[Fold, list[str]]]:
        """Return a protocol's folds with a sample of what each is judged on, the same for each emotion and speaker."""
        return [
            (fold, self.sample(fold.validation if protocol == "full" else fold.test)) for fold in self.folds[protocol]
        ]

    def sample(self, ids: Sequence[str]) -> list[str]:
        """Return at most as many utterances of each emotion and speaker as the settings say, sorted."""
        rng = np.random.default_rng(self.settings.seed)
        rows = self.manifest[self.manifest["id"].isin(set(ids))].sort_values("id")
        chosen: list[str] = []
        for _, part in rows.groupby(["speaker", "emotion"], sort=True):
            chosen += list(rng.permutation(part["id"].to_numpy())[: self.settings.utterances])
        return sorted(chosen)


def explain(case: Case, target: Path) -> None:
    """Write the explanation: tables and pictures, whole or not at all.

    Parameters
    ----------
    case : Case
    target : Path
        The folder to make: `network.png`, `occlusion.csv` and `.png`, `coefficients.png`, `utterances.png`,
        `embeddings.csv` and `.png`, `neighbours.csv`, `errors.csv` and, where there is an error, `errors.png`, and
        `labels.csv`.

    Raises
    ------
    UserError
        No protocol can be explained.
    """
    if not case.folds:
        raise UserError("explain: no protocol was trained, so there is nothing to explain. See split.protocols.")
    # the bits of a matrix product differ between one thread and two
    with replacing_folder(target) as folder, threadpool_limits(limits=1):
        protocol = "full" if "full" in case.folds else next(iter(case.folds))
        package = case.models / protocol / case.folds[protocol][0].name
        draw_network(package, folder / "network.png")
        table = occlusions(case)
        _write(folder / "occlusion.csv", table)
        figures.draw_occlusion(folder / "occlusion.png", table, case.labels, SCOPES)
        figures.draw_single_features(folder / "coefficients.png", table, case.labels, SCOPES)
        figures.draw_occluded_utterances(folder / "utterances.png", examples(case))
        points, neighbours = embeddings(case)
        _write(folder / "embeddings.csv", points)
        _write(folder / "neighbours.csv", neighbours)
        figures.draw_embeddings(folder / "embeddings.png", points, case.labels)
        wrong = errors(case.predictions)
        _write(folder / "errors.csv", wrong)
        shown = drawn_errors(wrong)
        if len(shown):
            waves = [_wave(case, name) for name in shown["id"]]
            figures.draw_errors(folder / "errors.png", shown, waves, case.store.settings.sample_rate)
        _write(folder / "labels.csv", labels_in_doubt(case))


def draw_network(package: Path, picture: Path) -> None:
    """Draw the network of a package, with what its frames are."""
    description = Package.load(package).description
    first, *others = read_layers(package)
    settings = description.features
    detail = f"{first.width} features every {1000 * settings.hop_length / settings.sample_rate:.3g} ms"
    figures.draw_network(picture, [replace(first, detail=detail), *others], description.labels)


def occlusions(case: Case) -> pd.DataFrame:
    """Return what each tenth of an utterance, group of features, and feature carries, by the emotion that was heard.

    Returns
    -------
    pd.DataFrame [columns=(scope, hidden, piece, emotion, utterances, log_odds, changed)]
        `log_odds` is the mean over the utterances heard so, in nats; `changed` the share of answers that become others.
    """
    rows: list[pd.DataFrame] = []
    for scope, protocol in (("known", case.known_protocol), ("new", NEW_VOICE)):
        if protocol is None or protocol not in case.folds:
            continue
        parts = []
        for fold, ids in case.judged(protocol):
            recognizer = case.recognizer(protocol, fold)
            store = case.heard(recognizer)
            frames, columns = store.read(ids), occlusion.groups(store.names)
            nothing = mean_frame(frames)
            time = occlusion.occlude_time(recognizer, frames, nothing)
            parts.append(_long("time", [str(number + 1) for number in range(occlusion.TENTHS)], time, case.labels))
            grouped = occlusion.occlude_groups(recognizer, frames, nothing, columns)
            parts.append(_long("features", list(columns), grouped, case.labels))
            each = occlusion.singles(store.names)
            alone = occlusion.occlude_groups(recognizer, frames, nothing, each)
            parts.append(_long("one feature", list(each), alone, case.labels))
        rows.append(_averaged(pd.concat(parts)).assign(scope=scope))
    table = pd.concat(rows, ignore_index=True)
    return table[["scope", "hidden", "piece", "emotion", "utterances", "log_odds", "changed"]]


def mean_frame(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over all frames of utterances [shape=(coefficients,)], float32: what says nothing."""
    total = np.sum([one.sum(axis=0, dtype=np.float64) for one in frames], axis=0)
    return (total / sum(len(one) for one in frames)).astype(np.float32)


def examples(case: Case) -> list["figures.OccludedUtterance"]:
    """Return one utterance of each emotion, of one speaker and text where there is such, and where its answer lies."""
    protocol = NEW_VOICE if NEW_VOICE in case.folds else case.known_protocol
    assert protocol is not None
    fold = case.folds[protocol][0]
    rows = case.manifest[case.manifest["id"].isin(set(fold.validation if protocol == "full" else fold.test))]
    recognizer, settings = case.recognizer(protocol, fold), case.store.settings
    store = case.heard(recognizer)
    columns = occlusion.groups(store.names)
    nothing = mean_frame(store.read(case.sample(list(rows["id"]))))
    hop = settings.hop_length / settings.sample_rate
    width, step = (max(1, round(seconds / hop)) for seconds in (_WINDOW_SECONDS, _STEP_SECONDS))
    found = []
    chosen = choose_examples(rows)[["id", "speaker", "emotion", "text"]].astype(str).to_dict("records")
    for row, frames in zip(chosen, store.read([row["id"] for row in chosen]), strict=True):
        lost = occlusion.occlusion_map(recognizer, frames, nothing, columns, width=width, step=step)
        [answer] = recognizer.answers(recognizer.predict_frames([frames]))
        wave = _wave(case, row["id"])
        found.append(
            figures.OccludedUtterance(
                title=f"“{row['text'] or row['id']}”, {row['speaker']}: {_words(row['emotion'])}",
                heard=f"heard as {_words(answer.label)}, {answer.confidence:.0%}",
                wave=wave,
                sample_rate=settings.sample_rate,
                lost=lost,
                groups=(occlusion.EVERYTHING, *columns),
                start=occlusion.first_frame(wave, settings) * hop,
                step=step * hop,
            )
        )
    return found


def embeddings(case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return where utterances lie in a map of the last layer, before training and after, and who their neighbours are.

    Returns
    -------
    points : pd.DataFrame [columns=(space, id, speaker, emotion, x, y)]
        By t-SNE (van der Maaten and Hinton, 2008): near is like; distances and directions across the map mean nothing.
    neighbours : pd.DataFrame [columns=(space, same_speaker, same_emotion, same_emotion_in_another_voice)]
        In the layer itself, not in the map: the share of utterances whose nearest one is of the same speaker, of the
        same emotion, and whose nearest one by another speaker is of the same emotion (empty: there is no other).
    """
    ids = case.sample(_seen_by_none(case))
    rows = case.manifest.set_index("id").loc[ids]
    points, neighbours = [], []
    for space, values in _spaces(case, ids):
        scaled = StandardScaler().fit_transform(values.astype(np.float64))
        placed = TSNE(
            perplexity=min(30, max(2, (len(ids) - 1) // 3)), init="pca", random_state=case.settings.seed, n_jobs=1
        ).fit_transform(scaled)
        table = pd.DataFrame({"space": space, "id": ids, "speaker": rows["speaker"].to_numpy()})
        points.append(table.assign(emotion=rows["emotion"].to_numpy(), x=placed[:, 0], y=placed[:, 1]))
        neighbours.append({"space": space, **_neighbours(scaled, rows)})
    return pd.concat(points, ignore_index=True), pd.DataFrame(neighbours)


def untrained(package: Package, folder: Path, *, seed: int) -> Recognizer:
    """Return a package's network as it is before training: the same graph, its weights drawn anew.

    Parameters
    ----------
    package : Package
    folder : Path
        Where the graph is written.
    seed : int

    Notes
    -----
    As Keras begins: Glorot's uniform distribution (2010), biases 0 and those of forget gates 1; only the recurrent
    weights, there orthogonal, come from Glorot's too.
    """
    model = onnx.load(str(package.graph))
    rng = np.random.default_rng(seed)
    weights = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in {"LSTM", "Gemm", "MatMul"}:
            continue
        for name in node.input[1:4]:
            if name not in weights:
                continue
            shape = numpy_helper.to_array(weights[name]).shape
            bias = name == (node.input[3] if node.op_type == "LSTM" else (*node.input, "", "")[2])
            values = np.zeros(shape) if bias else rng.uniform(-1, 1, shape) * np.sqrt(6 / sum(shape[-2:]))
            if bias and node.op_type == "LSTM":
                units = shape[1] // 8
                values[:, 2 * units : 3 * units] = 1.0  # ONNX's gates: input, output, forget, cell
            weights[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    with replacing(folder / GRAPH) as aside:
        aside.write_bytes(model.SerializeToString(deterministic=True))
    return Recognizer(Package(folder, package.description))


def errors(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the utterances of each protocol's test part that were most confidently heard as something else.

    Returns
    -------
    pd.DataFrame [columns=(protocol, fold, id, speaker, text, emotion, prediction, confidence, p_emotion)]
    """
    columns = ["protocol", "fold", "id", "speaker", "text", "emotion", "prediction", "confidence", "p_emotion"]
    found = []
    for protocol, rows in predictions.items():
        wrong = rows[rows["emotion"] != rows["prediction"]]
        own = [float(row[f"p_{row['emotion']}"]) for _, row in wrong.iterrows()]
        wrong = wrong.assign(protocol=protocol, p_emotion=own)
        found.append(wrong.sort_values(["confidence", "id"], ascending=[False, True]).head(ERRORS_LISTED)[columns])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def drawn_errors(wrong: pd.DataFrame) -> pd.DataFrame:
    """Return the worst errors to draw: each mistake of a fold once, so that one kind does not fill the picture."""
    order = [NEW_VOICE, *(name for name in dict.fromkeys(wrong["protocol"]) if name != NEW_VOICE)]
    for protocol in order:
        rows = wrong[wrong["protocol"] == protocol]
        if len(rows):
            first = rows.drop_duplicates(["fold", "emotion", "prediction"]).head(ERRORS_DRAWN)
            rest = rows.drop(first.index).head(ERRORS_DRAWN - len(first))
            return pd.concat([first, rest]).sort_values(["confidence", "id"], ascending=[False, True])
    return wrong


def labels_in_doubt(case: Case) -> pd.DataFrame:
    """Return the labels that predictions by models that have not learned from them speak against.

    The predictions are those of a simple model, cross-validated within each speaker, and those of the network on the
    test parts of protocols whose voices it knows. A voice that it has never heard it mishears too often to be asked.
    """
    inputs = label_issues.summaries(case.manifest, case.raw, case.store.settings, workers=case.workers)
    sources = {
        label_issues.CROSS_VALIDATED: label_issues.cross_validated(
            case.manifest, inputs, folds=case.settings.folds, seed=case.settings.seed
        )
    }
    for protocol, rows in case.predictions.items():
        if protocol != NEW_VOICE:
            table = rows.set_index("id")[[f"p_{label}" for label in case.labels]]
            sources[protocol] = table.rename(columns=lambda name: name.removeprefix("p_"))
    return label_issues.doubts(case.manifest, sources)


def _seen_by_none(case: Case) -> list[str]:
    """Return the utterances that the map shows: what the model of known voices is judged on, else all there are."""
    protocol = case.known_protocol
    if protocol is None:
        return list(case.manifest["id"])
    [fold, *_] = case.folds[protocol]
    return list(fold.validation if protocol == "full" else fold.test)


def _spaces(case: Case, ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the last layer of each network for the same utterances, with a name for it."""
    protocol = case.known_protocol or NEW_VOICE
    with tempfile.TemporaryDirectory() as temporary:
        known = case.recognizer(protocol, case.folds[protocol][0])
        before = untrained(known.package, Path(temporary), seed=case.settings.seed)
        frames = case.heard(known).read(ids)
        yield "before training", before.embed_frames(frames)
        if case.known_protocol is not None:
            yield "trained on these voices", known.embed_frames(frames)
    for fold in case.folds.get(NEW_VOICE, [])[:_MAPPED_FOLDS]:
        recognizer = case.recognizer(NEW_VOICE, fold)
        yield f"trained without {fold.name}", recognizer.embed_frames(case.heard(recognizer).read(ids))


def _neighbours(values: np.ndarray, rows: pd.DataFrame) -> dict[str, float]:
    speakers, emotions = rows["speaker"].to_numpy(), rows["emotion"].to_numpy()
    order = NearestNeighbors(n_neighbors=2).fit(values).kneighbors(values, return_distance=False)
    # an utterance with an equal may find that one before itself
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
        "same_emotion_in_another_voice": float(np.concatenate(across).mean()) if across else float("nan"),
    }


def _long(hidden: str, pieces: Sequence[str], found: occlusion.Occluded, labels: Sequence[str]) -> pd.DataFrame:
    """Return a row an utterance and piece."""
    count = len(found.answers)
    return pd.DataFrame(
        {
            "hidden": hidden,
            "piece": np.tile(np.array(pieces, dtype=object), count),
            "order": np.tile(np.arange(len(pieces)), count),
            "emotion": np.repeat(np.array(labels)[found.answers], len(pieces)),
            "log_odds": found.lost.ravel(),
            "changed": found.changed.ravel(),
        }
    )


def _averaged(rows: pd.DataFrame) -> pd.DataFrame:
    grouped = rows.groupby(["hidden", "order", "piece", "emotion"], sort=True)
    means = grouped[["log_odds", "changed"]].mean().assign(utterances=grouped.size()).reset_index()
    return means.sort_values(["hidden", "emotion", "order"]).drop(columns="order")


def _wave(case: Case, name: str) -> np.ndarray:
    path = case.manifest.set_index("id").at[name, "path"]
    return load(case.raw / str(path), case.store.settings.sample_rate)


def _words(label: object) -> str:
    return str(label).replace("_", " ")


def _write(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as aside:
        table.to_csv(aside, index=False, lineterminator="\n", float_format="%.4f")
