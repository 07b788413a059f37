"""Find recordings that look mislabelled, by confident learning (Northcutt, Jiang and Chuang, 2021; cleanlab).

A recording is suspected if a model that was not trained on it predicts another label with more confidence than it has
on average for recordings of that label.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CROSS_VALIDATED: Final = "cross-validated"
"""The source of predictions that every corpus has: a simple model within each speaker."""

COLUMNS: Final = ("source", "suspected", "id", "speaker", "text", "given", "predicted", "p_given", "p_predicted")

LISTED: Final = 10
"""Recordings that each source names at least, suspected or not."""


def find(functionals: pd.DataFrame, utterances: pd.DataFrame, *, folds: int, seed: int) -> pd.DataFrame:
    """Return the recordings whose label is least certain, by cross-validation within each speaker.

    Parameters
    ----------
    functionals : pd.DataFrame
        Features of each utterance, by id.
    utterances : pd.DataFrame
        Speaker, emotion and text of each utterance, by id.
    folds, seed : int
        Of the cross-validation.

    Returns
    -------
    pd.DataFrame [columns=COLUMNS]
    """
    rows = utterances.rename_axis("id").reset_index()
    return doubts(rows, {CROSS_VALIDATED: cross_validated(rows, functionals, folds=folds, seed=seed)})


def cross_validated(manifest: pd.DataFrame, inputs: pd.DataFrame, *, folds: int, seed: int) -> pd.DataFrame:
    """Return what logistic regression says of each utterance, learned from the same speaker's other texts.

    Parameters
    ----------
    manifest : pd.DataFrame
    inputs : pd.DataFrame
        As `summaries` gives them.
    folds, seed : int
        Of the cross-validation.

    Returns
    -------
    pd.DataFrame
        Probabilities, a row an utterance, a column a label in alphabetical order. Utterances of a speaker with too few
        texts or labels to learn from are left out.
    """
    labels = sorted(set(manifest["emotion"]))
    found = []
    for _, rows in manifest.groupby("speaker", sort=True):
        # who has no texts has every recording for a text of its own
        texts = np.where(rows["text"] != "", rows["text"], rows["id"])
        emotions = rows["emotion"].to_numpy()
        least = int(rows["emotion"].value_counts().min())
        splits = min(folds, len(set(texts)), least)
        if splits < 2 or len(set(emotions)) < 2:
            continue
        values = inputs.loc[rows["id"]].to_numpy()
        divided = StratifiedGroupKFold(splits, shuffle=True, random_state=seed).split(values, emotions, texts)
        for train, test in divided:
            if len(test) == 0 or len(set(emotions[train])) < 2:
                continue
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed))
            model.fit(values[train], emotions[train])
            found.append(pd.DataFrame(model.predict_proba(values[test]), rows["id"].iloc[test], list(model.classes_)))
    if not found:
        return pd.DataFrame(columns=labels, dtype=np.float64)
    return pd.concat(found).reindex(columns=labels).fillna(0.0).sort_index()


def doubts(manifest: pd.DataFrame, predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the recordings whose label is least certain, the most doubtful first.

    Parameters
    ----------
    manifest : pd.DataFrame
    predictions : mapping of str to pd.DataFrame
        By source, probabilities for utterances that their model has not learned from: rows by id, a column a label.

    Returns
    -------
    pd.DataFrame [columns=COLUMNS]
        Of each source, every recording that confident learning suspects, and at least the `LISTED` whose given label
        is the least probable.
    """
    rows = manifest.set_index("id")
    found = [_doubts(source, rows, table) for source, table in predictions.items() if len(table)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(COLUMNS))


def _doubts(source: str, rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    from cleanlab.filter import find_label_issues

    labels = np.array(table.columns)
    given = rows.loc[table.index, "emotion"].map({label: number for number, label in enumerate(labels)}).to_numpy()
    probabilities = table.to_numpy(dtype=np.float64)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)  # in a file they are rounded
    # one process: the answer is the same, and a pool would outlive a stage that is killed
    suspected = np.asarray(find_label_issues(given, probabilities, filter_by="confident_learning", n_jobs=1))
    own = probabilities[np.arange(len(given)), given]
    order = np.lexsort((table.index, own, ~suspected))[: max(LISTED, int(suspected.sum()))]
    chosen = table.index[order]
    return pd.DataFrame(
        {
            "source": source,
            "suspected": suspected[order],
            "id": chosen,
            "speaker": rows.loc[chosen, "speaker"].to_numpy(),
            "text": rows.loc[chosen, "text"].to_numpy(),
            "given": labels[given[order]],
            "predicted": labels[probabilities[order].argmax(axis=1)],
            "p_given": own[order],
            "p_predicted": probabilities[order].max(axis=1),
        },
        columns=list(COLUMNS),
    )
