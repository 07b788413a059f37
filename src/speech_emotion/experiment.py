"""Takes a corpus's manifest, features and a split; gives one trained package a fold, with its history."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from speech_emotion import graph, model, tracking
from speech_emotion.errors import UserError
from speech_emotion.files import digest_file, digest_json, replacing, replacing_folder, write_json
from speech_emotion.package import GRAPH, WEIGHTS, write_package_files
from speech_emotion.settings.corpus import CorpusSettings
from speech_emotion.settings.train import TrainSettings
from speech_emotion.splits import Fold
from speech_emotion.stage import alone
from speech_emotion.store import FeatureStore
from speech_emotion.training import Epoch, Part, Trained, train, training_digest

HISTORY: Final = "history.csv"
TRAINING: Final = "training.json"


@dataclass(frozen=True)
class Experiment:
    """What all folds of a protocol share."""

    corpus: CorpusSettings
    protocol: str
    settings: TrainSettings
    manifest: pd.DataFrame
    store: FeatureStore
    split: Path

    @property
    def data_digest(self) -> str:
        """Names the recordings and their labels, whatever else the manifest says of them."""
        return digest_json(self.manifest[["id", "speaker", "emotion", "text", "sha256"]].to_numpy().tolist())

    @property
    def labels(self) -> tuple[str, ...]:
        """The corpus's labels, in the order of every network's outputs."""
        return tuple(sorted(set(self.manifest["emotion"])))

    def labelled(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return utterances with their labels."""
        emotions = self.manifest.set_index("id")["emotion"]
        return [(name, str(emotions[name])) for name in ids]

    def part(self, ids: Sequence[str]) -> Part:
        """Return the features and label indices of utterances."""
        index = {label: number for number, label in enumerate(self.labels)}
        return Part(self.store.read(ids), np.array([index[label] for _, label in self.labelled(ids)], dtype=np.int64))


def train_fold(experiment: Experiment, fold: Fold, target: Path) -> None:
    """Train one fold and write its package, `history.csv` and `training.json` to `target`.

    Raises
    ------
    UserError
        Training diverged.
    """
    settings, store = experiment.settings, experiment.store
    digest = training_digest(
        settings,
        features=store.digest,
        train=experiment.labelled(fold.train),
        validation=experiment.labelled(fold.validation),
    )
    lineage = {
        "data": experiment.data_digest,
        "features": store.digest,
        "params": digest_json(settings.model_dump(mode="json")),
        "spec": store.spec_digest,
        "split": digest_file(experiment.split),
        "training": digest,
    }
    record = {
        "params": settings.model_dump(mode="json"),
        "features": store.settings.model_dump(mode="json"),
        "lineage": lineage,
        "training_digest": digest,
    }
    name = f"{experiment.protocol}/{fold.name}"
    with (
        alone(f"train/{digest}") as scratch,
        tracking.start(
            corpus=experiment.corpus.name,
            protocol=experiment.protocol,
            fold=fold.name,
            training_digest=digest,
            params=tracking.flat({"train": record["params"], "featurize": record["features"]}),
            lineage=lineage,
        ) as run,
    ):

        def on_epoch(row: Epoch) -> None:
            values = asdict(row)
            run.epoch(int(values.pop("epoch")), values)
            print(
                f"{name}: epoch {row.epoch}/{settings.epochs}  loss {row.loss:.4f}  accuracy {row.accuracy:.4f}  "
                f"val_loss {row.val_loss:.4f}  val_uar {row.val_uar:.4f}",
                flush=True,
            )

        trained = train(
            settings,
            training=experiment.part(fold.train),
            validation=experiment.part(fold.validation),
            labels=len(experiment.labels),
            scratch=scratch,
            on_epoch=on_epoch,
        )
        with replacing_folder(target) as aside:
            _write(experiment, fold, trained, lineage, aside)
            write_json(aside / TRAINING, {**record, "best_epoch": trained.best_epoch, "epochs": len(trained.history)})
        run.finish(target)


def read_training(folder: Path) -> dict[str, Any]:
    """Read what `train_fold` wrote in training.json."""
    try:
        content: dict[str, Any] = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder / TRAINING}: is missing or damaged. Run `dvc repro`.") from None
    return content


def _write(experiment: Experiment, fold: Fold, trained: Trained, lineage: dict[str, str], folder: Path) -> None:
    model.save(trained.network, folder)
    graph.write_graph(
        folder / GRAPH,
        experiment.settings.network,
        graph.layer_weights(trained.network),
        coefficients=experiment.store.coefficients,
    )
    write_package_files(
        folder,
        corpus=experiment.corpus.name,
        kind=experiment.corpus.kind,
        protocol=experiment.protocol,
        fold=fold.name,
        labels=experiment.labels,
        features=experiment.store.settings,
        statistics=trained.statistics,
        lineage={**lineage, "weights": digest_file(folder / WEIGHTS)},
    )
    history = pd.DataFrame([asdict(row) for row in trained.history], columns=[field.name for field in fields(Epoch)])
    with replacing(folder / HISTORY) as aside:
        history.to_csv(aside, index=False, lineterminator="\n", float_format="%.8g")
