"""Divide a corpus into train, validation and test parts, one table per protocol."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from speech_emotion.config.data import Protocol, SplitSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing
from speech_emotion.core.tables import read_table

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
ONE_FOLD: Final = "all"
_UTTERANCE: Final = ["id", "path", "corpus", "speaker", "sex", "emotion", "text", "sha256"]

COLUMNS: Final = ["fold", "id", "part", *_UTTERANCE[1:]]
"""Columns of a split. Later stages read labels and speakers from here, not from the manifest."""


class LeakError(UserError):
    """An utterance, text or speaker is on two sides of a split."""


@dataclass(frozen=True)
class Fold:
    """The utterance ids of one training, in the order of the manifest."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def make(manifest: pd.DataFrame, protocol: Protocol, settings: SplitSettings) -> pd.DataFrame:
    """Split a corpus by a protocol.

    * random: stratified by speaker and emotion;
    * word: no text on two sides; each part has at least one text;
    * speaker: leave each speaker out in turn, or each of `speaker_folds` groups of speakers, spread over the corpora (a
      corpus with fewer speakers than groups leaves each of them out alone);
    * corpus: leave each corpus of a mix out in turn;
    * full: the test part is `test_speakers`, which are in no other protocol.

    The validation parts of `speaker`, `corpus` and `full` hold other speakers than the training part if one speaker is
    at most `validation_share` of the speakers of a corpus, else other texts if one text is at most that share, else
    they are drawn like those of `random`. `random` and `full` keep a `part` that the user's own table names. If it
    names no validation part, one is drawn from its training part.

    The result has the columns `COLUMNS`. If the corpus does not support the protocol, a `UserError` says what is
    missing and how to leave the protocol out.
    """
    named = bool((manifest["part"] != "").all())
    rng = np.random.default_rng([settings.seed, ["random", "word", "speaker", "full", "corpus"].index(protocol)])
    test_share, validation_share = settings.test_share, settings.validation_share
    utterances, tested = manifest, manifest["speaker"].isin(settings.test_speakers)
    if unknown := sorted(set(settings.test_speakers) - set(manifest["speaker"])):
        raise UserError(f"params.yaml: split.test_speakers: no recording is of the speaker '{unknown[0]}'.")
    manifest = manifest[~tested]
    if protocol == "random":
        split = _one_fold(manifest, _random(manifest, rng, test_share, validation_share))
    elif protocol == "word":
        _need_groups(manifest, "text", 3, protocol)
        split = _one_fold(manifest, _by_text(manifest, rng, test_share, validation_share))
    elif protocol == "speaker":
        _need_groups(manifest, "speaker", 2, protocol)
        groups = manifest["speaker"]
        if settings.speaker_folds:
            _need_groups(manifest, "speaker", settings.speaker_folds, protocol)
            groups = groups.map(_speaker_groups(manifest, settings.speaker_folds, rng))
        split = _leave_out(manifest, groups, rng, validation_share)
    elif protocol == "corpus":
        _need_groups(manifest, "corpus", 2, protocol)
        split = _leave_out(manifest, manifest["corpus"], rng, validation_share)
    else:
        parts = (_random if named else _validation)(manifest, rng, 0.0, validation_share)
        split = pd.concat([_one_fold(manifest, parts), _one_fold(utterances[tested], TEST)], ignore_index=True)
    check(split, utterances if protocol == "full" else manifest, protocol, named=protocol == "random" and named)
    return split.merge(utterances[_UTTERANCE], on="id", how="left", validate="m:1")[COLUMNS]


def refuse_unsupported(manifest: pd.DataFrame, settings: SplitSettings) -> None:
    """Raise a `UserError` that lists the protocols which the corpus does not support, with the reasons."""
    mistakes = []
    for protocol in settings.protocols:
        try:
            make(manifest, protocol, settings)
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))


def check(split: pd.DataFrame, utterances: pd.DataFrame, protocol: Protocol, *, named: bool = False) -> None:
    """Check that a split fits its protocol.

    Raise `LeakError` if an utterance, a text (`word`), a speaker (`speaker`, `full`) or a corpus (`corpus`) is on two
    sides, and `UserError` if an utterance is unknown or missing, a part is empty, or a label has no training utterance.
    A corpus that is left out may have labels of its own, which are never predicted.
    """
    known = utterances[["id", "corpus", "speaker", "emotion", "text", "sha256"]]
    rows = split[["fold", "id", "part"]].merge(known, on="id", how="left", validate="m:1")
    unknown = rows.loc[rows["speaker"].isna(), "id"]
    if len(unknown):
        raise UserError(f"split '{protocol}': {len(unknown)} ids are not in the manifest, such as {unknown.iloc[0]}.")
    for fold, part in rows.groupby("fold", sort=True):
        where = f"split '{protocol}', fold '{fold}'"
        _one_side_only(part, "id", where)
        # one recording under two names would be a leak as well
        _one_side_only(part, "sha256", where)
        if protocol == "word":
            _one_side_only(part, "text", where)
        if protocol in ("speaker", "corpus", "full"):
            learned = part["part"].where(part["part"] == TEST, TRAIN)
            _one_side_only(part.assign(part=learned), "corpus" if protocol == "corpus" else "speaker", where)
        if len(part) != len(utterances):
            raise UserError(f"{where}: has {len(part)} of {len(utterances)} utterances.")
        for needed in (TRAIN, VALIDATION) if protocol == "full" else (TRAIN, VALIDATION, TEST):
            if not (part["part"] == needed).any():
                why = "the corpus is too small for these shares"
                if named and needed != VALIDATION:
                    why = "the table of your corpus names none for it in its column 'split'"
                raise UserError(f"{where}: the {needed} part is empty; {why}.")
        labels = part.loc[(part["part"] != TEST) | (protocol != "corpus"), "emotion"]
        unlearned = sorted(set(labels) - set(part.loc[part["part"] == TRAIN, "emotion"]))
        if unlearned:
            raise UserError(f"{where}: '{unlearned[0]}' has no utterance to train on.")


def write(path: Path, split: pd.DataFrame) -> None:
    """Write a split as CSV, whole or not at all."""
    with replacing(path) as temporary:
        split.to_csv(temporary, index=False, columns=COLUMNS, lineterminator="\n")


def read(path: Path) -> list[Fold]:
    """Read the folds of a split; raise a UserError if the file is missing or not a split."""
    split = _read_table(path)
    return [
        Fold(str(name), *(tuple(rows.loc[rows["part"] == part, "id"]) for part in (TRAIN, VALIDATION, TEST)))
        for name, rows in split.groupby("fold", sort=True)
    ]


def utterances(path: Path) -> pd.DataFrame:
    """Read the utterances of a split, one row each, all text."""
    return _read_table(path)[_UTTERANCE].drop_duplicates("id").reset_index(drop=True)


def _read_table(path: Path) -> pd.DataFrame:
    split = read_table(path, text=COLUMNS, advice="Run `dvc repro split`.")
    if list(split.columns) != COLUMNS or not set(split["part"]) <= {TRAIN, VALIDATION, TEST}:
        raise UserError(f"{path}: is not a split with the columns {', '.join(COLUMNS)}. Run `dvc repro split`.")
    return split


def _one_fold(manifest: pd.DataFrame, parts: np.ndarray | str) -> pd.DataFrame:
    return pd.DataFrame({"fold": ONE_FOLD, "id": manifest["id"].to_numpy(), "part": parts})


def _random(manifest: pd.DataFrame, rng: np.random.Generator, test_share: float, validation_share: float) -> np.ndarray:
    """Keep the parts that the user's table names and draw what it does not name."""
    named = manifest["part"].to_numpy(dtype=object)
    if (named == "").any():
        return _dealt(manifest, rng, test_share, validation_share)
    parts = np.where(named == TEST, TEST if test_share else TRAIN, named)
    trained = parts == TRAIN
    if trained.any() and not (parts == VALIDATION).any():
        parts[trained] = _dealt(manifest[trained], rng, 0.0, validation_share)
    return parts


def _dealt(manifest: pd.DataFrame, rng: np.random.Generator, test_share: float, validation_share: float) -> np.ndarray:
    """Draw the shares from each emotion, spread over its speakers; identical recordings stay together."""
    digests = manifest["sha256"].to_numpy()
    strata = manifest.groupby(["speaker", "emotion"], sort=True).indices
    distinct = {key: sorted(set(digests[rows])) for key, rows in strata.items()}
    tests = _counts({key: len(found) for key, found in distinct.items()}, {}, test_share, rng)
    validations = _counts({key: len(found) for key, found in distinct.items()}, tests, validation_share, rng)
    parts = np.full(len(manifest), TRAIN, dtype=object)
    for key, rows in strata.items():
        dealt = _assigned(distinct[key], rng, tests[key], validations[key])
        parts[rows] = [dealt[digest] for digest in digests[rows]]
    return parts


def _counts(sizes: Mapping[Any, int], taken: Mapping[Any, int], share: float, rng: np.random.Generator) -> Counter[Any]:
    """Return how many of each (speaker, emotion) a part gets; one of each emotion is left to train on."""
    counts = Counter({key: min(int(share * size + 1e-9), size - taken.get(key, 0)) for key, size in sizes.items()})
    for emotion in sorted({emotion for _, emotion in sizes}):
        keys = [key for key in sizes if key[1] == emotion]
        total = sum(sizes[key] for key in keys)
        left = total - sum(taken.get(key, 0) for key in keys) - 1
        missing = min(left, max(1, round(share * total)) if share else 0) - sum(counts[key] for key in keys)
        free = [key for key in keys if counts[key] + taken.get(key, 0) < sizes[key]]
        if missing > 0:
            counts.update(free[index] for index in rng.permutation(len(free))[:missing])
    return counts


def _by_text(rows: pd.DataFrame, rng: np.random.Generator, test_share: float, validation_share: float) -> np.ndarray:
    dealt = _deal(_groups(rows, "text"), rng, test_share, validation_share)
    return rows["text"].map(dealt).to_numpy()


def _leave_out(
    manifest: pd.DataFrame, groups: pd.Series, rng: np.random.Generator, validation_share: float
) -> pd.DataFrame:
    """Return one fold for each group, which is its test part."""
    folds = []
    for group in sorted(set(groups)):
        left_out = (groups == group).to_numpy()
        parts = np.full(len(manifest), TEST, dtype=object)
        parts[~left_out] = _validation(manifest[~left_out].assign(part=""), rng, 0.0, validation_share)
        folds.append(pd.DataFrame({"fold": group, "id": manifest["id"].to_numpy(), "part": parts}))
    return pd.concat(folds, ignore_index=True)


def _speaker_groups(manifest: pd.DataFrame, count: int, rng: np.random.Generator) -> dict[str, str]:
    """Deal the speakers of each corpus to groups named 1, 2, …, whose sizes differ by one at most.

    Beside larger corpora, one with fewer than `count` speakers has a further group for each of its speakers.
    """
    speakers = [rng.permutation(_groups(rows, "speaker")) for _, rows in manifest.groupby("corpus", sort=True)]
    large = [own for own in speakers if len(own) >= count] or speakers
    small = [own for own in speakers if len(own) < count] if len(large) < len(speakers) else []
    groups = {speaker: str(1 + number % count) for number, speaker in enumerate(np.concatenate(large))}
    alone = [speaker for own in small for speaker in own]
    return groups | {speaker: str(number) for number, speaker in enumerate(alone, count + 1)}


def _validation(
    manifest: pd.DataFrame, rng: np.random.Generator, test_share: float, validation_share: float
) -> np.ndarray:
    """Draw a validation part of whole speakers if there are enough, else of whole texts, else of utterances."""
    by_corpus = [_groups(rows, "speaker") for _, rows in manifest.groupby("corpus", sort=True)]
    counts = [int(len(speakers) * validation_share) for speakers in by_corpus]
    if any(counts) and (manifest["speaker"] != "").all():
        parts = [_assigned(speakers, rng, 0, count) for speakers, count in zip(by_corpus, counts, strict=True)]
        return manifest["speaker"].map({speaker: part for some in parts for speaker, part in some.items()}).to_numpy()
    deal = _by_text if _has_enough_texts(manifest, validation_share) else _random
    return deal(manifest, rng, test_share, validation_share)


def _has_enough_texts(manifest: pd.DataFrame, validation_share: float) -> bool:
    """Return whether a validation part of whole texts can be as small as its share."""
    return bool((manifest["text"] != "").all()) and manifest["text"].nunique() * validation_share >= 1


def _deal(groups: list[str], rng: np.random.Generator, test_share: float, validation_share: float) -> dict[str, str]:
    """Assign a part to each group. Every non-zero share gets at least one group while one is left to train on."""
    free = len(groups) - 1
    tests = min(free, max(1, round(test_share * len(groups)))) if test_share else 0
    return _assigned(groups, rng, tests, min(free - tests, max(1, round(validation_share * len(groups)))))


def _assigned(groups: list[str], rng: np.random.Generator, tests: int, validations: int) -> dict[str, str]:
    shuffled = [groups[index] for index in rng.permutation(len(groups))]
    parts = [TEST] * tests + [VALIDATION] * validations + [TRAIN] * (len(groups) - tests - validations)
    return dict(zip(shuffled, parts, strict=True))


def _groups(manifest: pd.DataFrame, column: str) -> list[str]:
    return sorted(set(manifest[column]))


def _need_groups(manifest: pd.DataFrame, column: str, count: int, protocol: Protocol) -> None:
    found = manifest[column].nunique()
    if found < count or (manifest[column] == "").any():
        raise UserError(
            f"split '{protocol}': needs the {column} of every utterance and at least {count} different ones, found "
            f"{found}. Name them in the corpus, or take '{protocol}' out of split.protocols in params.yaml."
        )


def _one_side_only(rows: pd.DataFrame, column: str, where: str) -> None:
    sides = rows[[column, "part"]].drop_duplicates()
    leaked = sorted(set(sides.loc[sides[column].duplicated(), column]))
    if leaked:
        raise LeakError(f"{where}: leak: {column} '{leaked[0]}' is on two sides ({len(leaked)} such in all).")
