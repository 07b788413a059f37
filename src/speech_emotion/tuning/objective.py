"""Train one trial on every fold of a protocol and return its mean validation negative log-likelihood."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from optuna.exceptions import StorageInternalError, TrialPruned
from optuna.trial import Trial

from speech_emotion.config.base import PARAMS
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.training import CalibrateSettings, TrainSettings
from speech_emotion.config.tuning import RecipeSettings, TuneSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file, digest_json
from speech_emotion.core.process import SCRATCH
from speech_emotion.data import splits
from speech_emotion.features.store import FeatureStore
from speech_emotion.tracking.connection import flat
from speech_emotion.tuning.space import Space
from speech_emotion.tuning.study import FIRST_ATTEMPT, trial_name

if TYPE_CHECKING:  # imports TensorFlow, which only workers need
    from speech_emotion.models.cross_validation import Experiment
    from speech_emotion.models.training import Epoch, Trained

_NOT_IN_STUDY_NAME: Final = {"trials", "minutes", "promotion", "storage", "heartbeat_seconds", "retries"}


class TrialInterruptedError(Exception):
    """A trial stopped early and will be resumed."""


@dataclass(frozen=True)
class SearchInputs:
    """The settings and files that a search reads; `train` holds the current settings. Workers receive a copy."""

    corpus: CorpusSettings
    tune: TuneSettings
    train: TrainSettings
    calibrate: CalibrateSettings

    @property
    def split(self) -> Path:
        """The split file of the protocol."""
        return Path("data") / self.corpus.name / "splits" / f"{self.tune.protocol}.csv"

    @property
    def folds(self) -> list[splits.Fold]:
        """The folds that every trial is trained on.

        Raise a `UserError` if `tune.folds` names a fold that the protocol does not have.
        """
        folds = splits.read(self.split)
        names = self.tune.folds or [fold.name for fold in folds]
        if unknown := set(names) - {fold.name for fold in folds}:
            raise UserError(
                f"{PARAMS}: tune.folds: '{min(unknown)}' is not a fold of '{self.tune.protocol}'. It has "
                f"{', '.join(fold.name for fold in folds)}."
            )
        return [fold for fold in folds if fold.name in names]

    @property
    def features(self) -> Path:
        """The folder of the features."""
        return Path("data") / self.corpus.name / "features"

    @property
    def space(self) -> Space:
        """The search space."""
        return Space(self.tune.dimensions, self.train)

    @property
    def full_recipe(self) -> RecipeSettings:
        """How `train` itself trains: all epochs on all utterances."""
        return RecipeSettings(share=1.0, epochs=self.train.epochs)

    def digests(self) -> dict[str, str]:
        """Return digests of the data, the features and the split."""
        return {
            "data": digest_json(splits.utterances(self.split).to_numpy().tolist()),
            "features": FeatureStore(self.features).digest,
            "split": digest_file(self.split),
        }

    def study_name(self) -> str:
        """Return the study's name. It changes with the space, the recipe, the data and all fixed settings."""
        train = flat({"train": self.train.model_dump(mode="json")})
        fixed = {name: value for name, value in train.items() if name not in self.tune.space}
        tune = self.tune.model_dump(mode="json", exclude=_NOT_IN_STUDY_NAME)
        digest = digest_json({"tune": tune, "fixed": fixed, **self.digests()})
        return f"{self.corpus.name}-{self.tune.protocol}-{digest[:10]}"


class Objective:
    """Train each fold by a recipe and report every epoch to Optuna; end early where `stopped` returns True."""

    def __init__(
        self, inputs: SearchInputs, recipe: RecipeSettings, *, study: str, stopped: Callable[[], bool]
    ) -> None:
        self.inputs, self.recipe, self.study, self._stopped = inputs, recipe, study, stopped
        self._space, self._utterances = inputs.space, splits.utterances(inputs.split)
        self._folds = inputs.folds
        # Optuna neither records epochs nor prunes with several objectives
        self._reports = inputs.tune.second is None

    @property
    def steps(self) -> int:
        """Epochs of a trial over all folds."""
        return len(self._folds) * self.recipe.epochs

    def __call__(self, trial: Trial) -> float | tuple[float, float]:
        """Return the mean validation loss, and the second objective if there is one.

        An interrupted trial keeps its checkpoints, from which the next attempt resumes.
        """
        from speech_emotion.models.backend import keras
        from speech_emotion.models.cross_validation import Experiment

        settings = self._space.settings(self._space.suggest(trial))
        settings = settings.model_copy(update={"epochs": self.recipe.epochs})
        experiment = Experiment(
            corpus=self.inputs.corpus,
            protocol=self.inputs.tune.protocol,
            settings=settings,
            features=FeatureStore(self.inputs.features),
            split=self.inputs.split,
            calibrate=self.inputs.calibrate,
        )
        first_attempt = trial.user_attrs.get(FIRST_ATTEMPT, trial.number)
        trial.set_user_attr(FIRST_ATTEMPT, first_attempt)  # Optuna copies it to a retry
        digest = digest_json(settings.model_dump(mode="json"))
        scratch = SCRATCH / "tune" / self.study / f"{first_attempt}-{digest[:12]}"
        keep = False
        losses: list[float] = []
        try:
            for fold in self._folds:
                trained = self._fit(trial, experiment, fold, scratch / fold.name, losses)
                losses.append(trained.history[trained.best_epoch - 1].val_loss)
                parameters = sum(float(np.prod(weight.shape)) for weight in trained.network.trainable_weights)
                del trained
        except (TrialInterruptedError, StorageInternalError, KeyboardInterrupt):
            keep = True
            raise
        finally:
            keras.backend.clear_session()  # Keras keeps all networks; collecting takes .3 s, so not after every fold
            if not keep:
                shutil.rmtree(scratch, ignore_errors=True)
        loss = float(np.mean(losses))
        return loss if self.inputs.tune.second is None else (loss, parameters)

    def _fit(
        self, trial: Trial, experiment: "Experiment", fold: splits.Fold, scratch: Path, before: list[float]
    ) -> "Trained":
        from speech_emotion.models.cross_validation import fit

        def on_epoch(epoch: "Epoch") -> None:
            if self._reports:
                step = len(before) * self.recipe.epochs + epoch.epoch
                trial.report(float(np.mean([*before, epoch.val_loss])), step)
            if self._stopped():
                raise TrialInterruptedError
            if self._reports and trial.should_prune():
                raise TrialPruned

        scratch.mkdir(parents=True, exist_ok=True)
        ids = subsample(self._utterances, fold.train, share=self.recipe.share, seed=self.inputs.tune.seed)
        with _lines_of(trial, fold):
            return fit(experiment, replace(fold, train=ids), scratch=scratch, on_epoch=on_epoch)


@contextmanager
def _lines_of(trial: Trial, fold: splits.Fold) -> Iterator[None]:
    """Name the trial and the fold in what the training prints."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            print(f"tune: {trial_name(trial)}, fold {fold.name}: {line}", flush=True)


def subsample(utterances: pd.DataFrame, ids: tuple[str, ...], *, share: float, seed: int) -> tuple[str, ...]:
    """Return the same share (0 to 1) of each speaker and emotion, at least one utterance, in the order of `ids`."""
    if share >= 1:
        return ids
    rows = utterances[utterances["id"].isin(set(ids))]
    rng = np.random.default_rng(seed)
    kept: set[str] = set()
    for _, group in rows.groupby(["speaker", "emotion"], sort=True):
        names = group["id"].to_numpy()
        kept |= {str(name) for name in rng.permutation(names)[: max(1, round(share * len(names)))]}
    return tuple(name for name in ids if name in kept)
