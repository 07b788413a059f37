"""Find recordings that look mislabelled, by confident learning (Northcutt, Jiang and Chuang, 2021; cleanlab).

A recording is suspected if a model that was not trained on it predicts another label with more confidence than it has
on average for recordings of that label.
"""

from typing import Final

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

COLUMNS: Final = ("suspected", "id", "speaker", "text", "given", "predicted", "p_given", "p_predicted")

LISTED: Final = 10
"""Least number of recordings in the table, suspected or not."""


def find(functionals: pd.DataFrame, utterances: pd.DataFrame, *, folds: int, seed: int) -> pd.DataFrame:
    """Return the recordings whose label is least certain, first: all that are suspected, and at least `LISTED`.

    `functionals` and `utterances` (speaker, emotion and text) are by id; `folds` and `seed` of the cross-validation.
    """
    from cleanlab.filter import find_label_issues

    table = cross_validated(functionals, utterances, folds=folds, seed=seed)
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    rows, labels, probabilities = utterances.loc[table.index], np.array(table.columns), table.to_numpy()
    given = np.searchsorted(labels, rows["emotion"].to_numpy(dtype=labels.dtype))
    # worker processes would outlive a stage that is killed
    suspected = np.asarray(find_label_issues(given, probabilities, filter_by="confident_learning", n_jobs=1))
    own = probabilities[np.arange(len(given)), given]
    found = rows[["speaker", "text"]].assign(
        suspected=suspected,
        given=labels[given],
        predicted=labels[probabilities.argmax(axis=1)],
        p_given=own,
        p_predicted=probabilities.max(axis=1),
    )
    found = found.rename_axis("id").reset_index()
    found = found.sort_values(["suspected", "p_given", "id"], ascending=[False, True, True])
    return found.head(max(LISTED, int(suspected.sum())))[list(COLUMNS)]


def cross_validated(functionals: pd.DataFrame, utterances: pd.DataFrame, *, folds: int, seed: int) -> pd.DataFrame:
    """Return the probabilities of logistic regression trained on other texts of the same speaker.

    The table has one row per utterance and one column per label, both sorted. Speakers with too few texts or labels are
    left out.
    """
    labels = sorted(set(utterances["emotion"]))
    found = []
    for _, rows in utterances.groupby("speaker", sort=True):
        # without texts, every recording is a text of its own
        texts = np.where(rows["text"] != "", rows["text"], rows.index)
        emotions = rows["emotion"].to_numpy()
        splits = min(folds, len(set(texts)), int(rows["emotion"].value_counts().min()))
        if splits < 2 or len(set(emotions)) < 2:
            continue
        values = functionals.loc[rows.index].to_numpy()
        for train, test in StratifiedGroupKFold(splits, shuffle=True, random_state=seed).split(values, emotions, texts):
            if len(test) == 0 or len(set(emotions[train])) < 2:
                continue
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed))
            model.fit(values[train], emotions[train])
            found.append(pd.DataFrame(model.predict_proba(values[test]), rows.index[test], list(model.classes_)))
    if not found:
        return pd.DataFrame(columns=labels, dtype=np.float64)
    return pd.concat(found).reindex(columns=labels).fillna(0.0).sort_index()
