"""Takes a split and what is cheap to know of each utterance; gives the predictions of models that a model must beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from speech_emotion.errors import UserError
from speech_emotion.splits import Fold

SHORTCUTS: Final = ("rms_dbfs", "peak_dbfs", "seconds")
"""Columns of the manifest that say how a recording was made, not what is heard in it."""

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "majority": "the most frequent label",
    "shuffled": "logistic regression on mean MFCCs, trained on shuffled labels: what chance looks like",
    "shortcut": "random forest on loudness, peak and duration alone",
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


def classical(fold: Fold, known: Known, *, seed: int) -> dict[str, pd.DataFrame]:
    """Fit every baseline but the reference model on a fold's train part and ask it about the test part.

    Parameters
    ----------
    fold : Fold
    known : Known
    seed : int

    Returns
    -------
    dict of str to pd.DataFrame
        By baseline: probabilities, a row a test utterance, a column a label in alphabetical order.

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
    makers: Mapping[str, ClassifierMixin] = {
        "majority": DummyClassifier(strategy="prior"),
        "shuffled": _logistic(seed),
        "shortcut": RandomForestClassifier(n_estimators=500, random_state=seed),
        "logistic": _logistic(seed),
        "svm": _svm(seed, splits=min(5, int(counts.min()))),
    }
    return {name: _ask(one, _inputs(name, known), fold, known, name, seed) for name, one in makers.items()}


def _ask(
    classifier: ClassifierMixin, inputs: pd.DataFrame, fold: Fold, known: Known, name: str, seed: int
) -> pd.DataFrame:
    train, test = list(fold.train), list(fold.test)
    labels = known.emotions.loc[train].to_numpy()
    if name == "shuffled":
        labels = np.random.default_rng(seed).permutation(labels)
    classifier.fit(inputs.loc[train].to_numpy(), labels)
    found = pd.DataFrame(classifier.predict_proba(inputs.loc[test].to_numpy()), test, list(classifier.classes_))
    return found.reindex(columns=sorted(set(known.emotions)), fill_value=0.0)


def _inputs(name: str, known: Known) -> pd.DataFrame:
    return known.shortcuts if name == "shortcut" else known.mean_mfcc


def _logistic(seed: int) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed))


def _svm(seed: int, *, splits: int) -> ClassifierMixin:
    # Platt's scaling, fitted by cross-validation within the train part, gives the probabilities
    svm = make_pipeline(StandardScaler(), SVC(C=10.0, random_state=seed))
    return CalibratedClassifierCV(svm, ensemble=False, cv=splits)
