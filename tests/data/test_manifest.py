import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.examples import manifest
from speech_emotion.core.errors import UserError
from speech_emotion.data.manifest import MANIFEST, read


def changed(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[1, column] = value
        return frame

    return change


BROKEN: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "column missing": (lambda frame: frame.drop(columns="text"), "expected the columns"),
    "column too many": (lambda frame: frame.assign(x=1), "expected the columns"),
    "no id": (changed("id", ""), "row 2: id: found ''; allowed: text, not empty."),
    "id twice": (changed("id", "A_0_angry"), "id: 'A_0_angry' occurs more than once."),
    "no emotion": (changed("emotion", ""), "row 2: emotion: found ''; allowed: text, not empty."),
    "rate of nothing": (changed("sample_rate", 0), "row 2: sample_rate: found 0; allowed: a number above 0."),
    "rate in words": (changed("sample_rate", "high"), "sample_rate: invalid literal for int()"),
    "no length": (changed("seconds", 0.0), "row 2: seconds: found 0.0; allowed: a number above 0."),
    "endless": (changed("seconds", np.inf), "row 2: seconds: found inf; allowed: a number above 0."),
    "loudness unknown": (changed("rms_dbfs", ""), "rms_dbfs: could not convert string to float"),
    "silent": (changed("peak_dbfs", -np.inf), "row 2: peak_dbfs: found -inf; allowed: a level in dB below full scale."),
    "digest cut": (changed("sha256", "ab12"), "row 2: sha256: found 'ab12'; allowed: 64 hexadecimal digits."),
    "unknown part": (changed("part", "dev"), "row 2: part: found 'dev'; allowed: empty, train, validation or test."),
    "one label": (lambda frame: frame.assign(emotion="sad"), "found 1 label (sad); a model needs at least two"),
}


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_refuses_other_schemas(tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], said: str) -> None:
    path = tmp_path / MANIFEST
    change(manifest()).to_csv(path, index=False)
    with pytest.raises(UserError, match=re.escape(f"{path}: {said}")):
        read(path)
