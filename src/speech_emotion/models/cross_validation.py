"""Takes a corpus's manifest, features and a split; gives one trained package a fold, with its history."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file, digest_json, replacing, replacing_folder, write_json
from speech_emotion.core.process import alone
from speech_emotion.data.splits import Fold
from speech_emotion.features.store import RECORDED, FeatureStore
from speech_emotion.models import network, onnx_export
from speech_emotion.models.calibration import fit_rejection, fit_temperature, softmax
from speech_emotion.models.package import GRAPH, WEIGHTS, Rejection, write_package_files
from speech_emotion.models.training import Epoch, Part, Trained, predict_logits, train, training_digest
from speech_emotion.tracking import mlflow_run

HISTORY: Final = "history.csv"
TRAINING: Final = "training.json"


@dataclass(frozen=True)
class Experiment:
    """What all folds of a protocol share."""

    corpus: CorpusSettings
    protocol: str
    settings: TrainSettings
    manifest: pd.DataFrame
    features: FeatureStore
    split: Path
    calibrate: CalibrateSettings

    @cached_property
    def store(self) -> FeatureStore:
        """The features, as far as the network hears them.

        Raises
        ------
        UserError
            More cepstra are to be heard than there are.
        """
        return self.features.narrowed(self.settings.inputs.of(self.features.settings))

    @cached_property
    def deciding(self) -> dict[str, Any]:
        """All settings that decide what comes of a training, by the sections of params.yaml, beside the data itself."""
        sections = {
            "train": self.settings.model_dump(mode="json"),
            "featurize": self.store.settings.model_dump(mode="json"),
            "augment": self.features.renditions,
            "calibrate": self.calibrate.model_dump(mode="json"),
        }
        return {name: values for name, values in sections.items() if values}

    @property
    def data_digest(self) -> str:
        """Names the recordings and their labels, whatever else the manifest says of them."""
        return digest_json(self.manifest[["id", "speaker", "emotion", "text", "sha256"]].to_numpy().tolist())

    @property
    def labels(self) -> tuple[str, ...]:
        """The corpus's labels, in the order of every network's outputs."""
        return tuple(sorted(set(self.manifest["emotion"])))

    def training_digest(self, fold: Fold) -> str:
        """Name the training of a fold by all that decides its weights."""
        return training_digest(
            self.settings,
            features=self.store.digest,
            train=self.labelled(fold.train),
            validation=self.labelled(fold.validation),
        )

    def labelled(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return utterances with their labels."""
        emotions = self.manifest.set_index("id")["emotion"]
        return [(name, str(emotions[name])) for name in ids]

    def part(self, ids: Sequence[str], *, copies: bool = False, scratch: Path | None = None) -> Part:
        """Return the features and label indices of utterances, with all their copies where asked for.

        They lie in a file in `scratch`, or are all held in memory where there is none.
        """
        voices = [voice for voice in self.store.voices if voice != RECORDED] if copies else []
        recorded, *others = (self.store.read(ids, voice, scratch=scratch) for voice in (RECORDED, *voices))
        return Part(recorded, self._indices(ids), tuple(others))

    def _indices(self, ids: Sequence[str]) -> np.ndarray:
        index = {label: number for number, label in enumerate(self.labels)}
        return np.array([index[label] for _, label in self.labelled(ids)], dtype=np.int64)


def fit(experiment: Experiment, fold: Fold, *, scratch: Path, on_epoch: Callable[[Epoch], None]) -> Trained:
    """Train on a fold, validated on its validation part.

    Parameters
    ----------
    experiment : Experiment
    fold : Fold
    scratch : Path
        Where checkpoint and frames lie: a folder of `Experiment.training_digest`, held by `process.alone`.
    on_epoch : callable

    Raises
    ------
    UserError
        Training diverged.
    """
    return train(
        experiment.settings,
        training=experiment.part(fold.train, copies=True, scratch=scratch),
        validation=experiment.part(fold.validation, scratch=scratch),
        labels=len(experiment.labels),
        scratch=scratch,
        on_epoch=on_epoch,
    )


def train_fold(experiment: Experiment, fold: Fold, target: Path) -> None:
    """Train one fold and write its package, `history.csv` and `training.json` to `target`.

    Raises
    ------
    UserError
        Training diverged.
    """
    settings, store = experiment.settings, experiment.store
    digest = experiment.training_digest(fold)
    lineage = {
        "data": experiment.data_digest,
        "features": store.digest,
        "params": digest_json(experiment.deciding),
        "spec": store.spec_digest,
        "split": digest_file(experiment.split),
        "training": digest,
    }
    # the same weights under another calibration are another model
    identity = digest_json({"training": digest, "calibrate": experiment.calibrate.model_dump(mode="json")})
    record = {"settings": experiment.deciding, "lineage": lineage, "training_digest": identity}
    name = f"{experiment.protocol}/{fold.name}"
    with (
        alone(f"train/{digest}") as scratch,
        mlflow_run.start(
            corpus=experiment.corpus.name,
            protocol=experiment.protocol,
            fold=fold.name,
            training_digest=identity,
            params=mlflow_run.flat(experiment.deciding),
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

        trained = fit(experiment, fold, scratch=scratch, on_epoch=on_epoch)
        with replacing_folder(target) as aside:
            calibration = _calibrate(experiment, fold, trained)
            _write(experiment, fold, trained, calibration, lineage, aside)
            write_json(
                aside / TRAINING,
                {
                    **record,
                    "best_epoch": trained.best_epoch,
                    "epochs": len(trained.history),
                    "weights": int(sum(np.prod(weight.shape) for weight in trained.network.trainable_weights)),
                    "calibration": calibration.summary,
                },
            )
        run.finish(target)


def read_training(folder: Path) -> dict[str, Any]:
    """Read what `train_fold` wrote in training.json."""
    try:
        content: dict[str, Any] = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder / TRAINING}: is missing or damaged. Run `dvc repro`.") from None
    return content


@dataclass(frozen=True)
class _Calibration:
    temperature: float
    rejection: Rejection
    utterances: int

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "utterances": self.utterances,
            "temperature": self.temperature,
            "rejection": self.rejection.model_dump(mode="json"),
        }


def _calibrate(experiment: Experiment, fold: Fold, trained: Trained) -> _Calibration:
    """Fit the temperature and the confidence threshold on the validation part."""
    validation = experiment.part(fold.validation)
    logits = predict_logits(trained.network, validation.frames)
    temperature = fit_temperature(logits, validation.labels)
    rejection = fit_rejection(softmax(logits, temperature), validation.labels, risk=experiment.calibrate.risk)
    return _Calibration(temperature, rejection, len(validation))


def _write(
    experiment: Experiment,
    fold: Fold,
    trained: Trained,
    calibration: _Calibration,
    lineage: dict[str, str],
    folder: Path,
) -> None:
    network.save(trained.network, folder)
    onnx_export.write_graph(
        folder / GRAPH,
        experiment.settings.network,
        onnx_export.layer_weights(trained.network),
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
        temperature=calibration.temperature,
        rejection=calibration.rejection,
    )
    history = pd.DataFrame([asdict(row) for row in trained.history], columns=[field.name for field in fields(Epoch)])
    with replacing(folder / HISTORY) as aside:
        history.to_csv(aside, index=False, lineterminator="\n", float_format="%.8g")
