"""Fit simple models on the splits of the network: what it has to beat."""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from speech_emotion.core.errors import UserError
from speech_emotion.data.splits import Fold

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "majority": "most frequent label",
    "shuffled": "logistic regression on mean MFCCs, trained on shuffled labels",
    "shortcut": "SVM on level, peak and duration only",
    "logistic": "logistic regression on mean MFCCs",
    "svm": "SVM on mean MFCCs",
    "svm_mean_std": "SVM on mean and standard deviation of MFCCs",
    "svm_functionals": "SVM on functionals of MFCCs and prosody",
    "reference": "reference model: LSTM on mean MFCCs",
}
"""Every baseline, by its key in `reports/<corpus>/baselines/`. The SVMs have an RBF kernel."""

_LEAST: Final = 1e-6

Predictions = Sequence[pd.DataFrame]
"""Probabilities of a baseline: a row per test utterance, a column per label, one table per repeat."""


def classical(
    fold: Fold, emotions: pd.Series, table: pd.DataFrame, *, seed: int, shuffles: int
) -> dict[str, Predictions]:
    """Fit every baseline except the reference model on the train part of a fold and predict its test part.

    `emotions` has the labels and `table`, from `features.functionals`, the inputs, by id of the utterance; `shuffles`
    is the number of label permutations of the control `shuffled`. Return the predictions by baseline. Raise a
    `UserError` if a label has a single utterance to train on.
    """
    labels = emotions.loc[list(fold.train)].to_numpy()
    names, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise UserError(
            f"baselines: fold '{fold.name}' has only one utterance of '{names[counts.argmin()]}' to train on, and at "
            "least two are needed. Add recordings, or take the protocol out of split.protocols in params.yaml."
        )
    folds = min(5, int(counts.min()))
    means = [str(column) for column in table if str(column).startswith("mean_")]
    deviations = [str(column) for column in table if str(column).startswith("std_")]
    columns: Mapping[str, list[str]] = {
        "majority": means,
        "logistic": means,
        "shortcut": ["rms_dbfs", "peak_dbfs", "seconds"],
        "svm": means,
        "svm_mean_std": [*means, *deviations],
        "svm_functionals": [str(column) for column in table if str(column).startswith("loud_")],
    }
    makers: Mapping[str, ClassifierMixin] = {
        "majority": DummyClassifier(strategy="prior"),
        "logistic": _logistic(seed),
        **{name: _svm(seed, folds=folds, cost=10.0) for name in ("shortcut", "svm", "svm_mean_std")},
        "svm_functionals": _svm(seed, folds=folds, cost=3.0),
    }
    every = sorted(set(emotions))
    found: dict[str, Predictions] = {
        name: (_predict(one, table.loc[:, columns[name]], labels, fold, every),) for name, one in makers.items()
    }
    found["shuffled"] = tuple(
        _predict(_logistic(seed), table[means], _shuffled(labels, fold, seed, number), fold, every)
        for number in range(shuffles)
    )
    return {name: found[name] for name in DESCRIPTIONS if name in found}


def with_references(fold: Fold, utterances: pd.DataFrame, table: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return the predictions of `svm_functionals` with references of each speaker, in training and test.

    Of `3 neutral`, at most three neutral recordings are drawn once for each speaker and not predicted. How far the mean
    of n of them lies from that of the training part is subtracted, shrunk by n / (n + 2). Of `all unlabelled`, the
    functionals of each speaker are standardized.

    Returns
    -------
    pd.DataFrame [columns=(id, labels…, fold, condition)]
    """
    inputs = table.loc[utterances.index, table.columns.str.startswith("loud_")]
    speakers, labels = utterances["speaker"], utterances["emotion"]
    neutral = utterances[labels == "neutral"].sample(frac=1, random_state=seed).groupby("speaker").head(3).index
    own, by_speaker = inputs.loc[neutral].groupby(speakers[neutral]), inputs.groupby(speakers)
    off = (own.mean() - inputs.loc[list(fold.train)].mean()).mul(own.size() / (own.size() + 2), axis=0)
    conditions = {
        "3 neutral": inputs - off.reindex(speakers).fillna(0).to_numpy(),
        "all unlabelled (transductive)": (inputs - by_speaker.transform("mean"))
        / (by_speaker.transform("std") + _LEAST),
    }
    truth, every, found = labels[list(fold.train)].to_numpy(), sorted(set(labels)), []
    folds = min(5, int(np.unique(truth, return_counts=True)[1].min()))
    for condition, values in conditions.items():
        predicted = _predict(_svm(seed, folds=folds, cost=3.0), values.fillna(0), truth, fold, every)
        kept = predicted.drop(neutral, errors="ignore") if condition == "3 neutral" else predicted
        found.append(kept.assign(fold=fold.name, condition=condition).rename_axis("id").reset_index())
    return pd.concat(found)


def as_table(found: Mapping[str, Predictions], fold: Fold) -> pd.DataFrame:
    """Return the predictions of baselines as one table [columns=(id, labels…, fold, baseline, repeat)]."""
    tables = [
        table.assign(fold=fold.name, baseline=name, repeat=number)
        for name, repeats in found.items()
        for number, table in enumerate(repeats)
    ]
    return pd.concat(tables).rename_axis("id").reset_index()


def _predict(
    classifier: ClassifierMixin, inputs: pd.DataFrame, labels: np.ndarray, fold: Fold, every: Sequence[str]
) -> pd.DataFrame:
    train, test = list(fold.train), list(fold.test)
    classifier.fit(inputs.loc[train].to_numpy(), labels)
    found = pd.DataFrame(classifier.predict_proba(inputs.loc[test].to_numpy()), test, list(classifier.classes_))
    return found.reindex(columns=list(every), fill_value=0.0)


def _shuffled(labels: np.ndarray, fold: Fold, seed: int, number: int) -> np.ndarray:
    """Return a permutation of the labels, another for each number and fold."""
    return np.random.default_rng([seed, number, *fold.name.encode()]).permutation(labels)


def _logistic(seed: int) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed))


class _Kernel(BaseEstimator, TransformerMixin):
    """The RBF kernel with all training utterances: twenty times as fast as that of `SVC`, in 8 n^2 bytes."""

    def fit(self, inputs: np.ndarray, labels: np.ndarray | None = None) -> Self:
        self.seen_ = inputs
        return self

    def transform(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(rbf_kernel(inputs, self.seen_))


def _svm(seed: int, *, folds: int, cost: float) -> ClassifierMixin:
    # Platt scaling, fitted by cross-validation within the train part, gives the probabilities
    svm = SVC(C=cost, kernel="precomputed", random_state=seed)
    return make_pipeline(StandardScaler(), _Kernel(), CalibratedClassifierCV(svm, ensemble=False, cv=folds))
