from pathlib import Path

import numpy as np
import pytest

from helpers.examples import manifest
from helpers.tiny_package import make_package
from speech_emotion.config.data import SplitSettings
from speech_emotion.data import splits
from speech_emotion.data.splits import Fold, LeakError
from speech_emotion.evaluation import leakage

SPLIT = SplitSettings(protocols=("random", "word", "speaker", "full"), seed=7, test_share=0.2, validation_share=0.1)


@pytest.mark.parametrize("protocol", SPLIT.protocols)
def test_new_split_has_no_leak(protocol: str, tmp_path: Path) -> None:
    rows = manifest()
    splits.write(tmp_path / "split.csv", splits.make(rows, protocol, SPLIT))

    leakage.check_folds(splits.read(tmp_path / "split.csv"), rows, protocol)


def test_leaking_word_is_named(tmp_path: Path) -> None:
    rows = manifest()
    splits.write(tmp_path / "split.csv", splits.make(rows, "word", SPLIT))
    (fold,) = splits.read(tmp_path / "split.csv")
    word = rows.set_index("id").loc[fold.test[0], "text"]
    leaky = Fold(fold.name, (*fold.train, fold.test[0]), fold.validation, fold.test[1:])

    with pytest.raises(LeakError, match=f"split 'word', fold 'all': leak: text '{word}' is on two sides"):
        leakage.check_folds([leaky], rows, "word")


def test_leaking_normalization_is_named(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")  # whose statistics are means of 0 and deviations of 1
    rng = np.random.default_rng(1)
    own = rng.standard_normal((4000, 13))
    own = ((own - own.mean(axis=0)) / own.std(axis=0)).astype(np.float32)
    leakage.check_normalization(package, np.split(own, 40))
    louder = own.copy()
    louder[:, 3] += 0.1
    with pytest.raises(LeakError, match=r"normalization\.json: leak: normalization: coefficient 3 differs by"):
        leakage.check_normalization(package, np.split(louder, 40))
