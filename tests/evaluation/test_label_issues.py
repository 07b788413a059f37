import numpy as np
import pandas as pd

from helpers.examples import manifest
from speech_emotion.evaluation.label_issues import COLUMNS, LISTED, cross_validated, doubts

CENTRES = {"angry": (4.0, 0.0), "happy": (0.0, 4.0), "sad": (-4.0, -4.0)}


def inputs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return features that say the emotion, differently for each speaker."""
    rng = np.random.default_rng(0)
    shift = {speaker: number * 10.0 for number, speaker in enumerate(sorted(set(rows["speaker"])))}
    centres = [np.array(CENTRES[row.emotion]) + shift[row.speaker] for row in rows.itertuples()]
    return pd.DataFrame(np.array(centres) + rng.normal(0, 0.5, (len(rows), 2)), index=rows["id"])


def test_cross_validation_covers_every_utterance() -> None:
    rows = manifest()

    found = cross_validated(rows, inputs(rows), folds=5, seed=1)

    assert sorted(found.index) == sorted(rows["id"])
    assert np.allclose(found.sum(axis=1), 1)
    assert (found.idxmax(axis=1) == rows.set_index("id").loc[found.index, "emotion"]).all()


def test_texts_are_held_out() -> None:
    rows = manifest(words=6)
    # what is told is the text alone: with the text left out, nothing is known
    texts = sorted(set(rows["text"]))
    told = pd.DataFrame(np.eye(len(texts))[[texts.index(text) for text in rows["text"]]], index=rows["id"])

    found = cross_validated(rows, told, folds=3, seed=1)

    assert np.allclose(found.to_numpy(), 1 / 3, atol=0.02)


def test_speaker_with_one_text_is_left_out() -> None:
    rows = manifest(words=1)

    assert len(cross_validated(rows, inputs(rows), folds=5, seed=1)) == 0


def test_recordings_without_texts() -> None:
    rows = manifest().assign(text="")

    assert len(cross_validated(rows, inputs(rows), folds=5, seed=1)) == len(rows)


def test_wrong_label_is_suspected() -> None:
    rows = manifest()
    known = inputs(rows)
    known.loc["A_3_sad"] *= 2  # nothing is as sad as this
    rows.loc[rows["id"] == "A_3_sad", "emotion"] = "angry"

    table = doubts(rows, {"simple": cross_validated(rows, known, folds=5, seed=1)})

    assert tuple(table.columns) == COLUMNS
    first = table.iloc[0]
    assert (first["id"], first["given"], first["predicted"], bool(first["suspected"])) == (
        "A_3_sad",
        "angry",
        "sad",
        True,
    )
    assert len(table) == LISTED
    assert table["suspected"].sum() == 1


def test_sources() -> None:
    rows = manifest()
    found = cross_validated(rows, inputs(rows), folds=5, seed=1)

    table = doubts(rows, {"a": found, "b": found.iloc[:12], "empty": found.iloc[:0]})

    assert list(dict.fromkeys(table["source"])) == ["a", "b"]
    assert doubts(rows, {}).empty
