"""Train, calibrate and package the model of each fold of a protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import softmax

from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.core.io import digest_file, digest_json, replacing, replacing_folder, write_json
from speech_emotion.core.process import alone
from speech_emotion.data import splits
from speech_emotion.data.splits import Fold
from speech_emotion.features.enrolment import References
from speech_emotion.features.frames import lengths_of
from speech_emotion.features.store import RECORDED, FeatureStore
from speech_emotion.models import network, onnx_export
from speech_emotion.models.calibration import fit_rejection, fit_temperature
from speech_emotion.models.package import GRAPH, WEIGHTS, Calibration, write_package_files
from speech_emotion.models.training import Epoch, Part, Trained, predict_logits, train, training_digest
from speech_emotion.tracking.connection import flat
from speech_emotion.tracking.mlflow_run import LiveRun, TrainingInfo

HISTORY: Final = "history.csv"
TRAINING: Final = "training.json"


@dataclass(frozen=True)
class Experiment:
    """The settings and data that all folds of a protocol share.

    Attributes
    ----------
    corpus : CorpusSettings
    protocol : str
    settings : TrainSettings
    calibrate : CalibrateSettings
    features : FeatureStore
    split : Path
        CSV file of the protocol.
    """

    corpus: CorpusSettings
    protocol: str
    settings: TrainSettings
    calibrate: CalibrateSettings
    features: FeatureStore
    split: Path

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """Path, corpus, speaker, emotion, text and sha256 of each utterance, indexed by id."""
        return splits.utterances(self.split).set_index("id")

    @cached_property
    def store(self) -> FeatureStore:
        """The features that the network reads.

        Raises
        ------
        UserError
            `train.inputs.n_mfcc` is more than the features have.
        """
        return self.features.narrowed(self.settings.inputs.of(self.features.settings))

    @cached_property
    def params(self) -> dict[str, Any]:
        """The sections of params.yaml that determine the trained and calibrated model."""
        sections = {
            "train": self.settings.model_dump(mode="json"),
            "featurize": self.store.settings.model_dump(mode="json"),
            "augment": self.features.augment,
            "calibrate": self.calibrate.model_dump(mode="json"),
        }
        return {name: values for name, values in sections.items() if values}

    @property
    def data_digest(self) -> str:
        """SHA-256 of the recordings and their labels."""
        table = self.utterances.reset_index()[["id", "speaker", "emotion", "text", "sha256"]]
        return digest_json(table.sort_values("id").to_numpy().tolist())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the corpus, in the order of the network's outputs."""
        return tuple(sorted(set(self.utterances["emotion"])))

    def training_digest(self, fold: Fold) -> str:
        """Return the digest of everything that determines the weights of a fold."""
        return training_digest(
            self.settings,
            features=self.store.digest,
            train=self.labelled(fold.train),
            validation=self.labelled(fold.validation),
        )

    def labelled(self, ids: Sequence[str]) -> list[tuple[str, ...]]:
        """Return (id, label, corpus, speaker) of utterances."""
        rows = self.utterances.loc[list(ids), ["emotion", "corpus", "speaker"]]
        return list(rows.itertuples(name=None))

    def part(self, ids: Sequence[str], *, copies: bool = False, scratch: Path | None = None) -> Part:
        """Return the features and label indices of utterances.

        Parameters
        ----------
        ids : sequence of str
        copies : bool
            Whether to add the augmented copies.
        scratch : Path or None
            Folder of a temporary file that holds the frames; None: in memory.
        """
        copied = [one for one in self.store.versions if one != RECORDED] if copies else []
        recorded, *others = (self.store.read(ids, one, scratch=scratch) for one in (RECORDED, *copied))
        index = {label: number for number, label in enumerate(self.labels)}
        rows = self.utterances.loc[list(ids)]
        labels = rows["emotion"].map(index).to_numpy(dtype=np.int64)
        weights = rows["corpus"].map(lambda corpus: self.settings.corpus_weights.get(corpus, 1.0)).to_numpy(np.float64)
        references = self.references(ids, [recorded, *others]) if copies and self.settings.references else None
        return Part(recorded, labels, tuple(others), weights / weights.mean(), references, self.store.settings)

    def references(self, ids: Sequence[str], versions: Sequence[Sequence[np.ndarray]]) -> References:
        """Return utterances as references of their speakers, given the frames of their versions."""
        rows = self.utterances.loc[list(ids)]
        return References.of(versions, rows["speaker"].to_numpy(), (rows["emotion"] == "neutral").to_numpy())


def fit(experiment: Experiment, fold: Fold, *, scratch: Path, on_epoch: Callable[[Epoch], None]) -> Trained:
    """Train the network of a fold, or resume it from its checkpoint in `scratch`.

    Parameters
    ----------
    experiment : Experiment
    fold : Fold
    scratch : Path
        Folder of the checkpoint and the frames, locked with `process.alone`.
    on_epoch : callable

    Raises
    ------
    UserError
        The loss became NaN.
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

    The checkpoint in `.scratch` has the digest of everything that determines the weights in its name. A fold that was
    trained before is read from there.

    Raises
    ------
    UserError
        The loss became NaN.
    """
    digest = experiment.training_digest(fold)
    lineage = {
        "data": experiment.data_digest,
        "features": experiment.store.digest,
        "params": digest_json(experiment.params),
        "spec": experiment.store.spec_digest,
        "split": digest_file(experiment.split),
        "training": digest,
    }
    # the same weights with another calibration are another model
    model_digest = digest_json({"training": digest, "calibrate": experiment.calibrate.model_dump(mode="json")})
    name = f"{experiment.protocol}/{fold.name}"
    params = flat(experiment.params)
    training = TrainingInfo(experiment.corpus.name, experiment.protocol, fold.name, model_digest, params, lineage)
    with alone(f"train/{digest}") as scratch, LiveRun(training) as run:

        def on_epoch(row: Epoch) -> None:
            values = asdict(row)
            run.epoch(int(values.pop("epoch")), values)
            print(
                f"{name}: epoch {row.epoch}/{experiment.settings.epochs}  loss {row.loss:.4f}  "
                f"accuracy {row.accuracy:.4f}  val_loss {row.val_loss:.4f}  val_uar {row.val_uar:.4f}",
                flush=True,
            )

        trained = fit(experiment, fold, scratch=scratch, on_epoch=on_epoch)
        with replacing_folder(target) as folder:
            calibration = _calibrate(experiment, fold, trained)
            _write_package(experiment, fold, trained, calibration, lineage, folder)
            write_json(
                folder / TRAINING,
                {
                    "settings": experiment.params,
                    "lineage": lineage,
                    "model_digest": model_digest,
                    "best_epoch": trained.best_epoch,
                    "epochs": len(trained.history),
                    "frames": int(lengths_of(experiment.store.read(fold.train, scratch=scratch)).sum()),
                    "weights": int(sum(np.prod(weight.shape) for weight in trained.network.trainable_weights)),
                    "calibration": {
                        "utterances": len(fold.validation),
                        **{name: one.model_dump(mode="json") for name, one in calibration.items()},
                    },
                },
            )
        run.finish(target)


def _calibrate(experiment: Experiment, fold: Fold, trained: Trained) -> dict[str, Calibration]:
    """Fit temperature and confidence threshold on the validation part: `alone`, and `enrolled` with references."""
    validation = experiment.part(fold.validation)
    frames = {"alone": validation.frames}
    if (settings := experiment.settings.references) and trained.statistics:
        always = settings.model_copy(update={"none": 0.0})
        references, rng = experiment.references(fold.validation, [validation.frames]), np.random.default_rng(0)
        shifts = references.shifts(np.zeros(len(validation), int), always, trained.statistics, rng)
        frames["enrolled"] = [one - shift for one, shift in zip(validation.frames, shifts, strict=True)]

    def fitted(frames: Sequence[np.ndarray]) -> Calibration:
        logits = predict_logits(trained.network, frames)
        temperature = fit_temperature(logits, validation.labels)
        probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
        rejection = fit_rejection(probabilities, validation.labels, risk=experiment.calibrate.risk)
        return Calibration(temperature=temperature, rejection=rejection)

    return {name: fitted(some) for name, some in frames.items()}


def _write_package(
    experiment: Experiment,
    fold: Fold,
    trained: Trained,
    calibration: Mapping[str, Calibration],
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
        temperature=calibration["alone"].temperature,
        rejection=calibration["alone"].rejection,
        enrolled=calibration.get("enrolled"),
    )
    history = pd.DataFrame([asdict(row) for row in trained.history], columns=[field.name for field in fields(Epoch)])
    with replacing(folder / HISTORY) as partial:
        history.to_csv(partial, index=False, lineterminator="\n", float_format="%.8g")
