from pathlib import Path

import pandas as pd
import pytest

from helpers.examples import manifest
from speech_emotion.config.data import SplitSettings
from speech_emotion.core.errors import UserError
from speech_emotion.data import splits

SETTINGS = SplitSettings(protocols=("random", "word", "speaker", "full"), seed=7, test_share=0.2, validation_share=0.1)


def folds(rows, protocol, tmp_path: Path) -> list[splits.Fold]:
    splits.write(tmp_path / "split.csv", splits.make(rows, protocol, SETTINGS))
    return splits.read(tmp_path / "split.csv")


@pytest.mark.parametrize("protocol", SETTINGS.protocols)
def test_every_utterance_has_one_part_in_every_fold(protocol, tmp_path: Path) -> None:
    rows = manifest()

    for fold in folds(rows, protocol, tmp_path):
        assert sorted(fold.train + fold.validation + fold.test) == sorted(rows["id"])


def test_random_keeps_the_shares_in_every_speaker_and_emotion(tmp_path: Path) -> None:
    rows = manifest()

    (fold,) = folds(rows, "random", tmp_path)

    for group in rows.groupby(["speaker", "emotion"])["id"]:
        assert len(set(group[1]) & set(fold.test)) == 2
        assert len(set(group[1]) & set(fold.validation)) == 1


def test_word_has_no_text_on_two_sides(tmp_path: Path) -> None:
    rows = manifest()
    text = rows.set_index("id")["text"]

    (fold,) = folds(rows, "word", tmp_path)

    sides = [set(text[list(part)]) for part in (fold.train, fold.validation, fold.test)]
    assert [len(side) for side in sides] == [7, 1, 2]
    assert not set.union(*sides) - set(text)
    assert sum(map(len, sides)) == text.nunique()


def test_speaker_leaves_every_speaker_out_once(tmp_path: Path) -> None:
    rows = manifest(speakers=("A", "B", "C"))
    speaker = rows.set_index("id")["speaker"]

    found = folds(rows, "speaker", tmp_path)

    assert [fold.name for fold in found] == ["A", "B", "C"]
    for fold in found:
        assert set(speaker[list(fold.test)]) == {fold.name}
        assert fold.name not in set(speaker[list(fold.train + fold.validation)])


def test_full_trains_on_every_speaker_and_tests_on_none(tmp_path: Path) -> None:
    rows = manifest()

    (fold,) = folds(rows, "full", tmp_path)

    assert not fold.test
    assert len(fold.validation) == len(rows) // 10


def test_copies_of_one_recording_stay_on_one_side(tmp_path: Path) -> None:
    rows = manifest()
    copies = rows.assign(id=rows["id"] + "_again")
    both = pd.concat([rows, copies], ignore_index=True)

    (fold,) = folds(both, "random", tmp_path)

    for part in (fold.train, fold.validation, fold.test):
        originals = {name.removesuffix("_again") for name in part}
        assert len(part) == 2 * len(originals)


def test_a_seed_gives_the_same_split_again_and_another_gives_another() -> None:
    rows = manifest()
    other = SETTINGS.model_copy(update={"seed": 8})

    first, again, different = (splits.make(rows, "random", settings) for settings in (SETTINGS, SETTINGS, other))

    assert first.equals(again)
    assert not first.equals(different)


@pytest.mark.parametrize(
    ("protocol", "column", "leak"),
    [("word", "text", "word0"), ("speaker", "speaker", "A"), ("random", "sha256", None)],
)
def test_a_deliberate_leak_fails_by_name(protocol, column, leak) -> None:
    rows = manifest()
    split = splits.make(rows, protocol, SETTINGS)
    if protocol == "word":
        one = rows.index[rows["text"] == "word0"][0]
        side = split.loc[one, "part"]
        split.loc[one, "part"] = "train" if side != "train" else "test"
    elif protocol == "speaker":
        tested = split.index[(split["fold"] == "A") & (split["part"] == "test")][0]
        split.loc[tested, "part"] = "train"
    else:
        trained, tested = (split.index[split["part"] == part][0] for part in ("train", "test"))
        rows.loc[tested, "sha256"] = leak = rows.loc[trained, "sha256"]

    with pytest.raises(splits.LeakError, match=f"leak: {column} '{leak}' is on two sides"):
        splits.check(split, rows, protocol)


@pytest.mark.parametrize(
    ("rows", "protocol", "message"),
    [
        (manifest(speakers=("A",)), "speaker", "at least 2 different ones, found 1"),
        (manifest().assign(text=""), "word", "needs the text of every utterance"),
        (manifest(words=1), "random", "the validation part is empty"),
    ],
)
def test_a_corpus_that_cannot_be_divided_so_says_why(rows, protocol, message) -> None:
    with pytest.raises(UserError, match=message):
        splits.make(rows, protocol, SETTINGS)


def test_parts_that_the_user_named_are_kept(tmp_path: Path) -> None:
    rows = manifest()
    rows["part"] = [
        "test" if text in {"word1", "word2"} else "validation" if text == "word3" else "train" for text in rows["text"]
    ]

    (fold,) = folds(rows, "random", tmp_path)

    assert set(fold.test) == set(rows.loc[rows["part"] == "test", "id"])


def parts_of_a_table(rows: pd.DataFrame) -> list[str]:
    return ["test" if text in {"word1", "word2"} else "train" for text in rows["text"]]


@pytest.mark.parametrize("protocol", ["random", "full"])
def test_where_the_user_named_no_validation_it_is_dealt_from_the_training_part(protocol, tmp_path: Path) -> None:
    rows = manifest()
    rows["part"] = parts_of_a_table(rows)
    copies = rows.assign(id=rows["id"] + "_again")
    both = pd.concat([rows, copies], ignore_index=True)

    (fold,) = folds(both, protocol, tmp_path)

    tested = set(both.loc[both["part"] == "test", "id"])
    assert set(fold.test) == (tested if protocol == "random" else set())
    for group in both.groupby(["speaker", "emotion"])["id"]:
        assert len(set(group[1]) & set(fold.validation)) == 2
    originals = {name.removesuffix("_again") for name in fold.validation}
    assert len(fold.validation) == 2 * len(originals)


def test_a_part_that_the_user_s_table_lacks_is_told_so() -> None:
    rows = manifest()
    rows["part"] = "train"

    with pytest.raises(UserError, match=r"the test part is empty; the table of your corpus names none .* 'split'"):
        splits.make(rows, "random", SETTINGS)
