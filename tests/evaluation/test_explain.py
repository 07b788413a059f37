from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from helpers.examples import EMOTIONS
from helpers.explaining import SETTINGS, make_case
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder
from speech_emotion.evaluation.explain import Case, drawn_errors, embeddings, errors, explain, untrained
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.package import Package

FILES = {
    "coefficients.png",
    "embeddings.csv",
    "embeddings.png",
    "errors.csv",
    "errors.png",
    "labels.csv",
    "neighbours.csv",
    "network.png",
    "occlusion.csv",
    "occlusion.png",
    "utterances.png",
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def explained(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "explanation"
    explain(case, folder)
    return folder


def test_every_table_and_picture_is_there_and_shows_something(explained: Path) -> None:
    assert {path.name for path in explained.iterdir()} == FILES
    for path in explained.glob("*.png"):
        assert matplotlib.image.imread(path)[..., :3].std() > 0.05, path.name


@pytest.mark.slow
def test_explained_again_it_has_the_same_bytes(case: Case, explained: Path, tmp_path: Path) -> None:
    explain(case, tmp_path / "again")

    assert digest_folder(tmp_path / "again") == digest_folder(explained)


def test_known_and_new_voices_are_told_apart(explained: Path) -> None:
    table = pd.read_csv(explained / "occlusion.csv", dtype={"piece": str})

    assert set(table["scope"]) == {"known", "new"}
    assert set(table["emotion"]) <= set(EMOTIONS)
    time = table[table["hidden"] == "time"]
    assert list(dict.fromkeys(time["piece"])) == [str(number) for number in range(1, 11)]
    assert list(dict.fromkeys(table.loc[table["hidden"] == "features", "piece"])) == [
        "c0, energy",
        "c1 to c4",
        "c5 to c12",
    ]


def test_the_map_shows_the_same_utterances_in_every_space(explained: Path) -> None:
    points = pd.read_csv(explained / "embeddings.csv")

    spaces = {str(space): list(rows["id"]) for space, rows in points.groupby("space", sort=False)}
    assert list(spaces) == ["before training", "trained on these voices", "trained without A", "trained without B"]
    assert len({tuple(ids) for ids in spaces.values()}) == 1


def test_at_most_so_many_utterances_of_each_emotion_and_speaker_are_looked_at(case: Case) -> None:
    chosen = case.manifest.set_index("id").loc[case.sample(list(case.manifest["id"]))]

    assert set(chosen.groupby(["speaker", "emotion"]).size()) == {SETTINGS.utterances}


@pytest.mark.slow
@pytest.mark.parametrize("protocols", [("speaker",), ("full",)])
def test_one_protocol_is_enough(tmp_path: Path, protocols: tuple) -> None:
    explain(make_case(tmp_path, protocols), tmp_path / "explanation")

    scopes = set(pd.read_csv(tmp_path / "explanation" / "occlusion.csv")["scope"])
    assert scopes == {"new" if protocols == ("speaker",) else "known"}


def test_no_protocol_is_one_message(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no protocol was trained"):
        explain(Case(case.manifest, case.raw, case.store, {}, case.models, {}, SETTINGS), tmp_path / "explanation")


def test_an_untrained_network_has_other_weights_and_the_same_shape(case: Case, tmp_path: Path) -> None:
    package = Package.load(case.models / "full" / "all")
    frames = case.store.read(list(case.manifest["id"][:5]))

    before = untrained(package, tmp_path, seed=1)

    assert before.predict_frames(frames).shape == Recognizer(package).predict_frames(frames).shape
    assert not np.allclose(before.predict_frames(frames), Recognizer(package).predict_frames(frames))


@pytest.mark.slow
def test_a_network_that_knows_the_emotions_has_them_for_neighbours(case: Case) -> None:
    _, neighbours = embeddings(case)

    # the embedding of these packages is the mean frame, in which the colour of the noise is the emotion
    assert (neighbours["same_emotion_in_another_voice"] > 0.9).all()


def predictions(rows: list[tuple[str, str, str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["id", "emotion", "prediction", "confidence"])
    table = table.assign(fold="A", speaker="A", text="back")
    return table.assign(**{f"p_{label}": 0.1 for label in EMOTIONS})


def test_the_surest_errors_come_first_and_right_answers_not_at_all() -> None:
    rows = [("1", "sad", "sad", 0.99), ("2", "sad", "angry", 0.6), ("3", "happy", "angry", 0.9)]

    assert list(errors({"speaker": predictions(rows)})["id"]) == ["3", "2"]


def test_each_kind_of_mistake_is_drawn_once_before_any_is_drawn_twice() -> None:
    rows = [(f"{number}", "sad", "angry", 0.9) for number in range(9)] + [("x", "happy", "sad", 0.5)]

    drawn = drawn_errors(errors({"word": predictions([("w", "sad", "happy", 0.99)]), "speaker": predictions(rows)}))

    assert "x" in set(drawn["id"])
    assert "w" not in set(drawn["id"])  # a new voice is what matters
    assert len(drawn) == 8
