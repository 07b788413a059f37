import numpy as np
import pandas as pd

from helpers.examples import manifest
from speech_emotion.evaluation.label_issues import COLUMNS, LISTED, cross_validated, find

CENTRES = {"angry": (4.0, 0.0), "happy": (0.0, 4.0), "sad": (-4.0, -4.0)}


def utterances(words: int = 6) -> pd.DataFrame:
    return manifest(words=words).set_index("id")[["speaker", "emotion", "text"]]


def functionals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return features that determine the emotion, differently for each speaker."""
    rng = np.random.default_rng(0)
    shift = {speaker: number * 10.0 for number, speaker in enumerate(sorted(set(rows["speaker"])))}
    centres = [np.array(CENTRES[row.emotion]) + shift[row.speaker] for row in rows.itertuples()]
    return pd.DataFrame(np.array(centres) + rng.normal(0, 0.5, (len(rows), 2)), index=rows.index)


def test_cross_validation_covers_every_utterance() -> None:
    for rows in (utterances(), utterances().assign(text="")):
        found = cross_validated(functionals(rows), rows, folds=5, seed=1)

        assert list(found.index) == sorted(rows.index)
        assert (found.idxmax(axis=1) == rows.loc[found.index, "emotion"]).all()


def test_texts_are_held_out() -> None:
    rows = utterances()
    texts = sorted(set(rows["text"]))
    one_hot = pd.DataFrame(np.eye(len(texts))[[texts.index(text) for text in rows["text"]]], index=rows.index)

    found = cross_validated(one_hot, rows, folds=3, seed=1)

    assert np.allclose(found.to_numpy(), 1 / 3, atol=0.02)


def test_speaker_with_one_text_is_left_out() -> None:
    rows = utterances(words=1)

    assert find(functionals(rows), rows, folds=5, seed=1).empty


def test_wrong_label_is_suspected() -> None:
    rows = utterances()
    known = functionals(rows)
    known.loc["A_3_sad"] *= 2
    rows.loc["A_3_sad", "emotion"] = "angry"

    table = find(known, rows, folds=5, seed=1)

    assert tuple(table.columns) == COLUMNS
    first = table.iloc[0]
    assert (first["id"], first["given"], first["predicted"]) == ("A_3_sad", "angry", "sad")
    assert len(table) == LISTED
    assert list(table["suspected"]) == [True] + [False] * (LISTED - 1)
