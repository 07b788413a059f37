from pathlib import Path

import pandas as pd
import pytest

from helpers.examples import manifest
from speech_emotion.config.data import SplitSettings
from speech_emotion.core.errors import UserError
from speech_emotion.data import splits

SETTINGS = SplitSettings(protocols=("random", "word", "speaker", "full"), seed=7, test_share=0.2, validation_share=0.1)


def folds(rows, protocol, tmp_path: Path, **changes) -> list[splits.Fold]:
    splits.write(tmp_path / "split.csv", splits.make(rows, protocol, SETTINGS.model_copy(update=changes)))
    return splits.read(tmp_path / "split.csv")


@pytest.mark.parametrize("protocol", SETTINGS.protocols)
def test_every_utterance_is_in_one_part(protocol, tmp_path: Path) -> None:
    rows = manifest()

    found = folds(rows, protocol, tmp_path)

    for fold in found:
        assert sorted(fold.train + fold.validation + fold.test) == sorted(rows["id"])
    assert splits.make(rows, protocol, SETTINGS).equals(splits.make(rows, protocol, SETTINGS))
    assert folds(rows, protocol, tmp_path, seed=8) != found


def test_random_is_stratified(tmp_path: Path) -> None:
    rows = manifest()

    (fold,) = folds(rows, "random", tmp_path)

    for group in rows.groupby(["speaker", "emotion"])["id"]:
        assert len(set(group[1]) & set(fold.test)) == 2
        assert len(set(group[1]) & set(fold.validation)) == 1


def test_word_is_disjoint(tmp_path: Path) -> None:
    rows = manifest()
    text = rows.set_index("id")["text"]

    (fold,) = folds(rows, "word", tmp_path)

    sides = [set(text[list(part)]) for part in (fold.train, fold.validation, fold.test)]
    assert [len(side) for side in sides] == [7, 1, 2]
    assert not set.union(*sides) - set(text)
    assert sum(map(len, sides)) == text.nunique()


def test_speaker_leaves_one_out(tmp_path: Path) -> None:
    rows = manifest(speakers=("A", "B", "C"))
    speaker = rows.set_index("id")["speaker"]

    found = folds(rows, "speaker", tmp_path)

    assert [fold.name for fold in found] == ["A", "B", "C"]
    for fold in found:
        assert set(speaker[list(fold.test)]) == {fold.name}
        assert fold.name not in set(speaker[list(fold.train + fold.validation)])


def test_full_has_no_test_part(tmp_path: Path) -> None:
    rows = manifest()

    (fold,) = folds(rows, "full", tmp_path)

    text = rows.set_index("id")["text"]
    assert not fold.test
    assert len(fold.validation) == len(rows) // 10
    assert not set(text[list(fold.train)]) & set(text[list(fold.validation)])


def test_identical_recordings_stay_together(tmp_path: Path) -> None:
    rows = manifest()
    both = pd.concat([rows, rows.assign(id=rows["id"] + "_again")], ignore_index=True)

    (fold,) = folds(both, "random", tmp_path)

    for part in (fold.train, fold.validation, fold.test):
        originals = {name.removesuffix("_again") for name in part}
        assert len(part) == 2 * len(originals)


@pytest.mark.parametrize("words", [1, 2, 5])
@pytest.mark.parametrize("protocol", ["random", "speaker", "full"])
def test_validation_share_holds_with_few_texts(protocol, words, tmp_path: Path) -> None:
    speakers = tuple(f"{number:02d}" for number in range(1, 9))
    takes = [manifest(speakers=speakers, words=words).assign(take=take) for take in range(4)]
    rows = pd.concat(takes, ignore_index=True)
    rows["id"] += rows.pop("take").astype(str)
    rows["sha256"] = [f"{number:064x}" for number in range(len(rows))]

    for fold in folds(rows, protocol, tmp_path):
        others = len(rows) if protocol != "speaker" else len(fold.train + fold.validation)
        assert len(fold.validation) / others == pytest.approx(SETTINGS.validation_share, abs=0.03)
        emotions = rows.set_index("id")["emotion"]
        assert set(emotions[list(fold.validation)]) == set(emotions)


def test_unsupported_protocols_are_listed_together() -> None:
    with pytest.raises(UserError, match=r"(?s)'word'.*text.*'speaker'.*at least 2 .*split\.protocols"):
        splits.refuse_unsupported(manifest(speakers=("A",)).assign(text=""), SETTINGS)
    with pytest.raises(UserError, match="the validation part is empty"):
        splits.make(manifest(words=1), "random", SETTINGS)
    with pytest.raises(UserError, match=r"the test part is empty; the table of your corpus names none .* 'split'"):
        splits.make(manifest().assign(part="train"), "random", SETTINGS)
    splits.refuse_unsupported(manifest(), SETTINGS)


@pytest.mark.parametrize(
    ("protocol", "column", "leak"), [("word", "text", "word0"), ("speaker", "speaker", "A"), ("random", "sha256", None)]
)
def test_leak_is_named(protocol, column, leak) -> None:
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


@pytest.mark.parametrize("protocol", ["random", "full"])
def test_validation_is_drawn_from_named_training_part(protocol, tmp_path: Path) -> None:
    rows = manifest()
    rows["part"] = rows["text"].map({"word1": "test", "word2": "test"}).fillna("train")
    both = pd.concat([rows, rows.assign(id=rows["id"] + "_again")], ignore_index=True)

    (fold,) = folds(both, protocol, tmp_path)

    assert set(fold.test) == (set(both.loc[both["part"] == "test", "id"]) if protocol == "random" else set())
    originals = {name.removesuffix("_again") for name in fold.validation}
    assert len(fold.validation) == 2 * len(originals)


VOICES = [
    *(f"big/{number:02}" for number in range(20)),
    *(f"small/{number}" for number in range(10)),
    *(f"pair/{name}" for name in "ab"),
]


def mixed_folds(protocol, tmp_path: Path, **changes) -> tuple[pd.DataFrame, list[splits.Fold]]:
    """Return the manifest of a mix of three corpora, and its folds."""
    rows = manifest(speakers=VOICES, words=3)
    mixed = {"speaker_folds": 5, "test_speakers": ("big/03", "small/7"), "validation_share": 0.2}
    settings = SETTINGS.model_copy(update=mixed | changes)
    splits.write(tmp_path / "split.csv", splits.make(rows, protocol, settings))
    return rows.set_index("id"), splits.read(tmp_path / "split.csv")


def test_speaker_folds_are_spread_over_corpora(tmp_path: Path) -> None:
    rows, found = mixed_folds("speaker", tmp_path)

    tested = [set(rows["speaker"][list(fold.test)]) for fold in found]
    assert sorted(speaker for group in tested for speaker in group) == sorted(set(VOICES) - {"big/03", "small/7"})
    assert {sum(one.startswith("big") for one in group) for group in tested[:5]} <= {3, 4}
    assert sorted(one for group in tested[5:] for one in group) == ["pair/a", "pair/b"]


@pytest.mark.parametrize("protocol", ["speaker", "corpus", "full"])
def test_validation_has_other_speakers(protocol, tmp_path: Path) -> None:
    rows, found = mixed_folds(protocol, tmp_path)

    for fold in found:
        trained, validated = (set(rows["speaker"][list(part)]) for part in (fold.train, fold.validation))
        assert validated
        assert not trained & validated


def test_corpus_leaves_one_out(tmp_path: Path) -> None:
    rows, found = mixed_folds("corpus", tmp_path)

    assert [fold.name for fold in found] == ["big", "pair", "small"]
    for fold in found:
        assert set(rows["corpus"][list(fold.test)]) == {fold.name}
        assert fold.name not in set(rows["corpus"][list(fold.train + fold.validation)])

    rows = manifest(speakers=("A", "B")).assign(part="", corpus=lambda table: table["speaker"])
    rows = rows[(rows["corpus"] == "A") | (rows["emotion"] != "sad")]
    assert [fold.name for fold in folds(rows, "corpus", tmp_path)] == ["A", "B"]
    with pytest.raises(UserError, match="'sad' has no utterance to train on"):
        folds(rows, "speaker", tmp_path)


def test_test_speakers_are_only_in_the_test_part_of_full(tmp_path: Path) -> None:
    for protocol in ("random", "word", "speaker", "corpus", "full"):
        rows, found = mixed_folds(protocol, tmp_path)
        for fold in found:
            speakers = rows["speaker"][list(fold.train + fold.validation + fold.test)]
            assert ({"big/03", "small/7"} <= set(speakers)) == (protocol == "full")
            if protocol == "full":
                assert set(rows["speaker"][list(fold.test)]) == {"big/03", "small/7"}
    with pytest.raises(UserError, match="no recording is of the speaker 'big/99'"):
        mixed_folds("full", tmp_path, test_speakers=("big/99",))
