"""Takes a trial; gives its validation UAR, the mean over a protocol's folds, from trainings by a recipe."""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.config.tuning import RecipeSettings, TuneSettings
from speech_emotion.core.io import digest_file, digest_json
from speech_emotion.core.process import SCRATCH
from speech_emotion.data import manifest as manifests
from speech_emotion.data import splits
from speech_emotion.features.store import FeatureStore
from speech_emotion.tracking.connection import flat
from speech_emotion.tuning.space import Space
from speech_emotion.tuning.study import HISTORY

if TYPE_CHECKING:
    from optuna.trial import Trial

    from speech_emotion.models.cross_validation import Experiment
    from speech_emotion.models.training import Epoch, Trained

LATENCY_FRAMES = 100
LATENCY_CALLS = 20


class TrialInterruptedError(Exception):
    """A trial was told to end, and will be tried again."""


@dataclass(frozen=True)
class Ground:
    """What a search stands on: settings, and where the corpus's files lie. A worker gets it as it is.

    Attributes
    ----------
    corpus, tune, train, calibrate : CorpusSettings, TuneSettings, TrainSettings, CalibrateSettings
        `train` holds the present settings.
    manifest, features, split : Path
    """

    corpus: CorpusSettings
    tune: TuneSettings
    train: TrainSettings
    calibrate: CalibrateSettings
    manifest: Path
    features: Path
    split: Path

    @classmethod
    def of(
        cls, corpus: CorpusSettings, tune: TuneSettings, train: TrainSettings, calibrate: CalibrateSettings
    ) -> "Ground":
        """Return the ground of this workspace."""
        data = Path("data") / corpus.name
        return cls(
            corpus,
            tune,
            train,
            calibrate,
            manifest=data / "manifest" / "manifest.csv",
            features=data / "features",
            split=data / "splits" / f"{tune.protocol}.csv",
        )

    def digests(self) -> dict[str, str]:
        """Return what names the data, the features and the split.

        Raises
        ------
        UserError
            The stages before training have not run.
        """
        experiment = self.experiment(self.train)
        splits.read(self.split)
        return {
            "data": experiment.data_digest,
            "features": experiment.store.digest,
            "split": digest_file(self.split),
        }

    def experiment(self, settings: TrainSettings) -> "Experiment":
        """Return the protocol's experiment with other settings."""
        from speech_emotion.models.cross_validation import Experiment

        return Experiment(
            corpus=self.corpus,
            protocol=self.tune.protocol,
            settings=settings,
            features=FeatureStore(self.features),
            split=self.split,
            calibrate=self.calibrate,
        )

    @property
    def space(self) -> Space:
        """What is searched."""
        return Space(self.tune.dimensions, self.train)

    @property
    def full(self) -> RecipeSettings:
        """The recipe of the training itself."""
        return RecipeSettings(share=1.0, epochs=self.train.epochs, members=1)

    def study_name(self) -> str:
        """Return the name of the study of this very search: another space, recipe or corpus has another."""
        searched = set(self.tune.space)
        fixed = {
            name: value
            for name, value in flat({"train": self.train.model_dump(mode="json")}).items()
            if name not in searched
        }
        asked = self.tune.model_dump(
            mode="json", exclude={"trials", "minutes", "promotion", "storage", "heartbeat_seconds", "retries"}
        )
        digest = digest_json({"tune": asked, "fixed": fixed, **self.digests()})
        return f"{self.corpus.name}-{self.tune.protocol}-{digest[:10]}"


def in_words(recipe: RecipeSettings) -> str:
    """Return how a recipe trains, in words."""
    share = "all training utterances" if recipe.share == 1 else f"{recipe.share:.0%} of the training utterances"
    networks = "" if recipe.members == 1 else f", {recipe.members} networks"
    return f"trained {recipe.epochs} epochs on {share}{networks}"


class Objective:
    """Trains each fold by a recipe and reports every epoch.

    Parameters
    ----------
    ground : Ground
    recipe : RecipeSettings
    study : str
        Names the folder of checkpoints.
    prunes : bool
    stopped : callable
        Tells whether the search was told to end.
    """

    def __init__(
        self, ground: Ground, recipe: RecipeSettings, *, study: str, prunes: bool, stopped: Callable[[], bool]
    ) -> None:
        self.ground, self.recipe, self.study = ground, recipe, study
        self._prunes, self._stopped = prunes, stopped
        self._space = ground.space
        self.folds = splits.read(ground.split)
        self._manifest = manifests.read(ground.manifest)

    @property
    def steps(self) -> int:
        """Epochs of a trial, over all folds."""
        return len(self.folds) * self.recipe.epochs

    def __call__(self, trial: "Trial", *, first_try: int) -> float | tuple[float, float]:
        """Return the UAR, and the second objective where there is one.

        Raises
        ------
        optuna.TrialPruned
        TrialInterruptedError
        UserError
            The training diverged, or the settings do not go together.
        """
        from optuna.exceptions import StorageInternalError

        from speech_emotion.models.backend import keras

        settings = self._space.settings(self._space.suggest(trial))
        settings = settings.model_copy(update={"epochs": self.recipe.epochs})
        experiment = self.ground.experiment(settings)
        scratch = SCRATCH / "tune" / self.study / f"{first_try}-{digest_json(settings.model_dump(mode='json'))[:12]}"
        keep = False
        try:
            scores: list[float] = []
            second = 0.0
            for fold in self.folds:
                trained = self._fit(trial, experiment, fold, scratch / fold.name, scores)
                scores.append(trained.history[trained.best_epoch - 1].val_uar)
                if fold is self.folds[-1] and self.ground.tune.second is not None:
                    second = self._second(experiment, trained, scratch)
                del trained
        except (TrialInterruptedError, StorageInternalError, KeyboardInterrupt):
            keep = True
            raise
        finally:
            # Keras keeps what every network was made of; to collect it takes a third of a second, so not for every fold
            keras.backend.clear_session()
            if not keep:
                shutil.rmtree(scratch, ignore_errors=True)
        uar = float(np.mean(scores))
        return uar if self.ground.tune.second is None else (uar, second)

    def _fit(
        self, trial: "Trial", experiment: "Experiment", fold: splits.Fold, scratch: Path, before: list[float]
    ) -> "Trained":
        import optuna

        from speech_emotion.models.cross_validation import fit

        told: dict[str, list[float]] = {}
        offset = len(before) * self.recipe.epochs

        def on_epoch(row: "Epoch") -> None:
            values = {key: value for key, value in asdict(row).items() if key not in {"epoch", "learning_rate"}}
            for key, value in values.items():
                told.setdefault(key, []).append(round(float(value), 6))
            trial.set_user_attr(f"{HISTORY} {fold.name}", told)
            if self._prunes:
                trial.report(float(np.mean([*before, row.val_uar])), offset + row.epoch)
            if self._stopped():
                raise TrialInterruptedError
            if self._prunes and trial.should_prune():
                raise optuna.TrialPruned(f"after epoch {row.epoch} of fold {fold.name}")

        scratch.mkdir(parents=True, exist_ok=True)
        return fit(experiment, replace(fold, train=self._sample(fold)), scratch=scratch, on_epoch=on_epoch)

    def _sample(self, fold: splits.Fold) -> tuple[str, ...]:
        """Return the recipe's share of the training part: the same in every trial, of each speaker and emotion."""
        return sample(self._manifest, fold.train, share=self.recipe.share, seed=self.ground.tune.seed)

    def _second(self, experiment: "Experiment", trained: "Trained", scratch: Path) -> float:
        network = trained.network
        if self.ground.tune.second == "parameters":
            return float(sum(np.prod(weight.shape) for weight in network.trainable_weights))
        return _latency(experiment, trained, scratch / "graph.onnx")


def sample(manifest: pd.DataFrame, ids: tuple[str, ...], *, share: float, seed: int) -> tuple[str, ...]:
    """Return a share of utterances, in their order: of each speaker and emotion the same share, one at least.

    Parameters
    ----------
    manifest : pd.DataFrame
    ids : tuple of str
    share : float
        From 0 to 1.
    seed : int
        The choice is a function of this and the ids.
    """
    if share >= 1:
        return ids
    rows = manifest[manifest["id"].isin(set(ids))]
    rng = np.random.default_rng(seed)
    kept: set[str] = set()
    for _, group in rows.groupby(["speaker", "emotion"], sort=True):
        names = group["id"].to_numpy()
        kept |= {str(name) for name in rng.permutation(names)[: max(1, round(share * len(names)))]}
    return tuple(name for name in ids if name in kept)


def _latency(experiment: "Experiment", trained: "Trained", path: Path) -> float:
    """Return the median time (ms) in which the network's graph answers two seconds of frames, on one thread."""
    import onnxruntime

    from speech_emotion.models import onnx_export

    path.parent.mkdir(parents=True, exist_ok=True)
    coefficients = experiment.store.coefficients
    weights = onnx_export.layer_weights(trained.network)
    onnx_export.write_graph(path, experiment.settings.network, weights, coefficients=coefficients)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    frames = np.zeros((1, LATENCY_FRAMES, coefficients), np.float32)
    lengths = np.array([LATENCY_FRAMES], np.int32)
    seconds = []
    for _ in range(LATENCY_CALLS):
        began = time.perf_counter()
        session.run(None, {"frames": frames, "lengths": lengths})
        seconds.append(time.perf_counter() - began)
    return round(1000 * float(np.median(seconds)), 4)
