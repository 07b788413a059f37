import numpy as np
import pandas as pd

from speech_emotion.data.splits import Fold
from speech_emotion.models.baselines import with_references


def test_references_remove_the_speaker() -> None:
    rng, rows = np.random.default_rng(0), [(s, e, n) for s in "abcd" for e in ("neutral", "sad") for n in range(10)]
    ids = [f"{speaker}/{emotion}{n}" for speaker, emotion, n in rows]
    utterances = pd.DataFrame({"speaker": [s for s, *_ in rows], "emotion": [e for _, e, _ in rows]}, index=ids)
    own = utterances["speaker"].map({"a": -60.0, "b": -20.0, "c": 20.0, "d": 60.0})
    values = own + 8 * (utterances["emotion"] == "sad") + rng.normal(size=len(rows))
    table = pd.DataFrame({"loud_f0": values, "mean_0": 0.0})
    test = [name for name in ids if name.startswith("d")]
    fold = Fold("1", train=tuple(name for name in ids if name not in test), validation=(), test=tuple(test))

    found = with_references(fold, utterances, table, seed=1).set_index("condition")

    truth = found["id"].map(utterances["emotion"])
    right = (found[["neutral", "sad"]].idxmax(axis=1) == truth).groupby(level=0)
    assert right.size().to_dict() == {"3 neutral": 17, "all unlabelled (transductive)": 20}
    assert right.mean()["all unlabelled (transductive)"] == 1.0
