from pathlib import Path

import pytest

from helpers.files import fill
from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.data.corpora import facts, open_corpus
from speech_emotion.data.corpora.published import read_checksums

OWN = {"sad/anna.wav": b"1", "joy/anna.wav": b"2"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("source/mine"), OWN)
    fill(Path("source/savee"), {path: path.encode() for path in read_checksums("savee")})


def mix(**changes: object) -> CorpusSettings:
    values = {"name": "own", "kind": "mix", "source": "source", "corpora": ("savee", "mine"), "checksums": "ignore"}
    return CorpusSettings.model_validate(values | changes)


def test_ids_and_speakers_name_their_corpus() -> None:
    opened = open_corpus(mix())
    opened.fetch(Path("raw"))
    found = opened.utterances(Path("raw"))
    assert len(found) == 480 + 2
    assert {one.corpus for one in found} == {"savee", "mine"}
    assert all(one.path.parts[0] == one.corpus and (Path("raw") / one.path).is_file() for one in found)
    speakers = {one.speaker for one in found if one.corpus == "savee"}
    assert speakers == {"savee/DC", "savee/JE", "savee/JK", "savee/KL"}
    assert found == sorted(found, key=lambda one: one.path)


def test_nothing_is_left_of_an_incomplete_mix() -> None:
    fill(Path("source/mine"), {"joy/anna.wav": b"2"})
    (Path("source/savee") / next(iter(read_checksums("savee")))).unlink()
    with pytest.raises(UserError, match="missing"):
        open_corpus(mix()).fetch(Path("raw"))
    assert not Path("raw").exists()


def test_copies_are_found_in_the_usual_places(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Path("data/incoming/mine"), OWN)
    monkeypatch.setenv("SAVEE_DIR", "source/savee")
    open_corpus(mix(source="data/incoming")).fetch(Path("raw"))
    assert len(list(Path("raw/savee").rglob("*.wav"))) == 480
    with pytest.raises(UserError, match="elsewhere/savee"):
        open_corpus(mix(source="elsewhere")).fetch(Path("again"))


@pytest.mark.parametrize(
    "wrong", [{"corpora": ()}, {"corpora": ("mine", "mine")}, {"corpora": ("mix",)}, {"kind": "tess"}]
)
def test_impossible_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"corpora"):
        mix(**wrong)


def test_licence_names_every_corpus() -> None:
    licence = facts("mix", ("tess", "ravdess", "crema_d")).weights_licence
    assert all(name in licence for name in ("CC BY-NC-ND 4.0", "CC BY-NC-SA 4.0", "ODbL"))
