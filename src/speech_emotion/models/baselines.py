"""Takes a split and what is cheap to know of each utterance; gives the predictions of models that a model must beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from speech_emotion.core.errors import UserError
from speech_emotion.data.splits import Fold

SHORTCUTS: Final = ("rms_dbfs", "peak_dbfs", "seconds")
"""Columns of the manifest that say how a recording was made, not what is heard in it."""

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "majority": "the most frequent label",
    "shuffled": "logistic regression on mean MFCCs, trained on shuffled labels",
    "shortcut": "support vector machine (RBF) on loudness, peak and duration alone",
    "logistic": "logistic regression on mean MFCCs",
    "svm": "support vector machine (RBF) on mean MFCCs",
    "reference": "the reference model: LSTM over mean MFCCs",
}


@dataclass(frozen=True)
class Known:
    """What the baselines know of a corpus.

    Attributes
    ----------
    emotions : pd.Series
        By utterance id.
    shortcuts : pd.DataFrame [columns=SHORTCUTS]
        By utterance id.
    mean_mfcc : pd.DataFrame
        The mean of each coefficient over time, by utterance id.
    """

    emotions: pd.Series
    shortcuts: pd.DataFrame
    mean_mfcc: pd.DataFrame


Answers = Sequence[pd.DataFrame]
"""Probabilities of a baseline, a row a test utterance, a column a label in alphabetical order; one a repeat."""


def classical(fold: Fold, known: Known, *, seed: int, shuffles: int) -> dict[str, Answers]:
    """Fit every baseline but the reference model on a fold's train part and ask it about the test part.

    Parameters
    ----------
    fold : Fold
    known : Known
    seed : int
    shuffles : int
        Of the labels, for the control.

    Returns
    -------
    dict of str to Answers
        By baseline; all but the control are made once.

    Raises
    ------
    UserError
        A label has a single utterance to train on.
    """
    counts = known.emotions.loc[list(fold.train)].value_counts()
    if counts.min() < 2:
        raise UserError(
            f"baselines: fold '{fold.name}' has only one utterance of '{counts.idxmin()}' to train on, and at least "
            "two are needed. Add recordings, or take the protocol out of split.protocols in params.yaml."
        )
    splits = min(5, int(counts.min()))
    makers: Mapping[str, ClassifierMixin] = {
        "majority": DummyClassifier(strategy="prior"),
        "logistic": _logistic(seed),
        "shortcut": _svm(seed, splits=splits),
        "svm": _svm(seed, splits=splits),
    }
    labels = known.emotions.loc[list(fold.train)].to_numpy()
    found: dict[str, Answers] = {
        name: (_ask(one, known.shortcuts if name == "shortcut" else known.mean_mfcc, labels, fold, known),)
        for name, one in makers.items()
    }
    found["shuffled"] = tuple(
        _ask(_logistic(seed), known.mean_mfcc, _shuffled(labels, fold, seed, number), fold, known)
        for number in range(shuffles)
    )
    return {name: found[name] for name in DESCRIPTIONS if name in found}


def as_table(found: Mapping[str, Answers], fold: Fold) -> pd.DataFrame:
    """Return what baselines say of a fold's test part [columns=(id, labels…, fold, baseline, repeat)]."""
    tables = [
        table.assign(fold=fold.name, baseline=name, repeat=number)
        for name, answers in found.items()
        for number, table in enumerate(answers)
    ]
    return pd.concat(tables).rename_axis("id").reset_index()


def _ask(
    classifier: ClassifierMixin, inputs: pd.DataFrame, labels: np.ndarray, fold: Fold, known: Known
) -> pd.DataFrame:
    train, test = list(fold.train), list(fold.test)
    classifier.fit(inputs.loc[train].to_numpy(), labels)
    found = pd.DataFrame(classifier.predict_proba(inputs.loc[test].to_numpy()), test, list(classifier.classes_))
    return found.reindex(columns=sorted(set(known.emotions)), fill_value=0.0)


def _shuffled(labels: np.ndarray, fold: Fold, seed: int, number: int) -> np.ndarray:
    """Return the labels in another order, one for each number and each fold."""
    return np.random.default_rng([seed, number, *fold.name.encode()]).permutation(labels)


def _logistic(seed: int) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed))


def _svm(seed: int, *, splits: int) -> ClassifierMixin:
    # Platt's scaling, fitted by cross-validation within the train part, gives the probabilities
    svm = make_pipeline(StandardScaler(), SVC(C=10.0, random_state=seed))
    return CalibratedClassifierCV(svm, ensemble=False, cv=splits)
