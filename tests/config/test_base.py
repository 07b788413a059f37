import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from speech_emotion.config.base import SECTIONS, Section, parse_section, read_params, read_section, section_or
from speech_emotion.config.data import CorpusSettings
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.config.params import Settings, read_settings
from speech_emotion.config.training import EarlyStoppingSettings, TrainSettings
from speech_emotion.core.errors import UserError


@pytest.fixture
def params(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of params.yaml in the working folder, so that messages have its name alone."""
    monkeypatch.chdir(tmp_path)
    path = Path("params.yaml")
    path.write_bytes((root / "params.yaml").read_bytes())
    return path


def change(path: Path, old: str, new: str) -> None:
    """Replace a passage of params.yaml; "…" in it is whatever a line goes on with, so that tuning breaks no test."""
    pattern = r"(?m)^( *)" + re.escape(old).replace("…", "[^\\n]*")
    text, count = re.subn(pattern, lambda found: found[1] + new, path.read_text(encoding="utf-8"))
    assert count == 1, f"{old!r} is in params.yaml {count} times"
    path.write_text(text, encoding="utf-8")


def message(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_settings(path)
    return str(error.value)


MISTAKES: dict[str, tuple[str, str, str]] = {
    "corpus: not one of": (
        "kind: tess",
        "kind: iemocap",
        'corpus.kind: found "iemocap"; allowed: one of tess, demo, folder.',
    ),
    "corpus: pattern": (
        "name: tess",
        "name: My TESS",
        'corpus.name: found "My TESS"; allowed: text that matches ^[a-z][a-z0-9-]{0,39}$.',
    ),
    "corpus: nothing where text belongs": (
        "source: data/incoming",
        "source:",
        "corpus.source: found null; allowed: text, not empty.",
    ),
    "download: below the range": (
        "connections: 4",
        "connections: 0",
        "download.connections: found 0; allowed: a whole number from 1 to 16.",
    ),
    "download: infinite": (
        "timeout_seconds: 30.0",
        "timeout_seconds: .inf",
        "download.timeout_seconds: found .inf; allowed: a number above 0 and of at most 600.",
    ),
    "prepare: text where a number belongs": (
        "silence_dbfs: -60.0",
        "silence_dbfs: quiet",
        'prepare.silence_dbfs: found "quiet"; allowed: a number of at most 0.',
    ),
    "prepare: not one of": (
        "bad_recordings: stop",
        "bad_recordings: yes",
        'prepare.bad_recordings: found "yes"; allowed: one of stop, leave_out.',
    ),
    "featurize: a rule between settings": (
        "hop_length: 320",
        "hop_length: 500",
        "featurize: allowed: a hop_length (500) of at most win_length (400).",
    ),
    "featurize: null is one of two": (
        "f_max: null",
        "f_max: none",
        'featurize.f_max: found "none"; allowed: a number above 0 or null.',
    ),
    "featurize: a number that is one of a few": (
        "deltas: 0",
        "deltas: 3",
        "featurize.deltas: found 3; allowed: one of 0, 1, 2.",
    ),
    "featurize: true is no number": (
        "n_fft: 512",
        "n_fft: true",
        "featurize.n_fft: found true; allowed: a whole number from 64 to 16384.",
    ),
    "featurize: yes is text in YAML 1.2": (
        "c0: false",
        "c0: yes",
        'featurize.c0: found "yes"; allowed: true or false.',
    ),
    "split: a rule": (
        "protocols: [random, word, speaker, full]",
        "protocols: [random]",
        "split: allowed: a list with 'full' in it: it is the model that is packaged.",
    ),
    "split: an item of a list": (
        "protocols: [random, word, speaker, full]",
        "protocols: [random, words, full]",
        'split.protocols.1: found "words"; allowed: one of random, word, speaker, full.',
    ),
    "split: an empty list": (
        "protocols: [random, word, speaker, full]",
        "protocols: []",
        "split.protocols: found []; allowed: a list of 1 or more, each one of random, word, speaker, full.",
    ),
    "train: a fraction where a whole number belongs": (
        "epochs: …",
        "epochs: 40.5",
        "train.epochs: found 40.5; allowed: a whole number from 1 to 10000.",
    ),
    "train: a date where a number belongs": (
        "epochs: …",
        "epochs: 2024-01-01",
        'train.epochs: found "2024-01-01"; allowed: a whole number from 1 to 10000.',
    ),
    "train: not a number": (
        "learning_rate: …",
        "learning_rate: .nan",
        "train.optimizer.learning_rate: found .nan; allowed: a number above 0 and of at most 10.",
    ),
    "train: dropout 1.2, two levels down": (
        "dropout: …",
        "dropout: {lstm: 1.2, dense: 0.3}",
        "train.network.dropout.lstm: found 1.2; allowed: a number of at least 0 and below 1.",
    ),
    "train: a setting missing": (
        "dropout: …",
        "dropout: {lstm: 0.3}",
        "train.network.dropout.dense: is missing; allowed: a number of at least 0 and below 1.",
    ),
    "train: an unknown setting with a near name": (
        "batch_size: …",
        "batch_size: 64\n  batchsize: 3",
        "train.batchsize: there is no such setting. Did you mean 'batch_size'?",
    ),
    "train: an unknown setting like no other": (
        "dropout: …",
        "dropout: {lstm: 0.3, dense: 0.3, zzz: 1}",
        "train.network.dropout.zzz: there is no such setting. Known here: lstm, dense.",
    ),
    "train: an unknown setting in what may be null": (
        "early_stopping: null",
        "early_stopping: {patience: 3, patient: 3}",
        "train.early_stopping.patient: there is no such setting. Did you mean 'patience'?",
    ),
    "train: one number where a list belongs": (
        "lstm: […",
        "lstm: 64",
        "train.network.lstm: found 64; allowed: a list of 1 to 4, each a whole number from 1 to 2048.",
    ),
    "train: no mapping": (
        "early_stopping: null",
        "early_stopping: 5",
        "train.early_stopping: found 5; allowed: a mapping with the keys patience or null.",
    ),
    "evaluate: nothing below a section": (
        "evaluate:\n  calibration_bins: …\n  bootstrap: …\n    resamples: …\n    seed: …",
        "evaluate:",
        "evaluate: found null; allowed: a mapping with the keys calibration_bins, bootstrap.",
    ),
    "package: a rule": (
        "max_seconds: 60.0        # longer audio is refused",
        "max_seconds: 0.1",
        "package: allowed: a min_seconds (0.2) below max_seconds (0.1).",
    ),
    "compute: out of range": (
        "workers: null",
        "workers: -1",
        "compute.workers: found -1; allowed: a whole number from 1 to 1024 or null.",
    ),
    "a key twice": ("epochs: …", "epochs: 40\n  epochs: 30", 'line 44: found duplicate key "epochs". Keep one.'),
    "no YAML": ("epochs: …", "epochs: [40", "line 44: not valid YAML: expected ',' or ']', but got ':'."),
    "a tab": ("  epochs: …", "\tepochs: 40", "line 43: not valid YAML: "),
}


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_with_the_key_what_was_found_and_what_is_allowed(
    params: Path, old: str, new: str, said: str
) -> None:
    change(params, old, new)
    found = message(params)
    assert "\n" not in found
    # the YAML reader's own words may change with its version, and lines with params.yaml
    if said.startswith("line "):
        assert found.startswith("params.yaml: line ")
        assert said.split(": ", 1)[1][:20] in found
    else:
        assert found == f"params.yaml: {said}"


def test_params_as_committed_are_valid(params: Path) -> None:
    settings = read_settings(params)
    assert settings.corpus == read_section("corpus", CorpusSettings, params)
    assert settings.train == read_section("train", TrainSettings, params)


def test_every_mistake_is_told_at_once(params: Path) -> None:
    change(params, "deltas: 0", "deltas: 9")
    change(params, "epochs: …", "epoch: 40")
    assert message(params).splitlines() == [
        "params.yaml: featurize.deltas: found 9; allowed: one of 0, 1, 2.",
        "params.yaml: train.epochs: is missing; allowed: a whole number from 1 to 10000.",
        "params.yaml: train.epoch: there is no such setting. Did you mean 'epochs'?",
    ]


def test_a_stage_reads_its_sections_whatever_is_wrong_elsewhere(params: Path) -> None:
    change(params, "epochs: …", "epochs: many")
    assert read_section("featurize", FeaturizeSettings, params).n_fft == 512


def test_a_section_that_is_missing_or_unknown_is_named(params: Path) -> None:
    change(params, "\nprepare:", "\nprepared:")
    lines = message(params).splitlines()
    assert lines[0].startswith("params.yaml: prepared: there is no such section.")
    assert lines[1:] == ["params.yaml: the section 'prepare:' is missing."]
    with pytest.raises(UserError, match=r"the section 'tuning:' is missing"):
        read_section("tuning", CorpusSettings, params)


def test_a_stage_refuses_a_section_that_it_does_not_read_and_that_is_unknown(params: Path) -> None:
    change(params, "\nevaluate:", "\nevalute:")
    with pytest.raises(UserError) as error:
        read_section("featurize", FeaturizeSettings, params)
    assert str(error.value) == "params.yaml: evalute: there is no such section. Did you mean 'evaluate'?"
    assert message(params).splitlines()[0] == str(error.value)


def test_where_no_section_is_near_all_are_named(params: Path) -> None:
    params.write_text(params.read_text(encoding="utf-8") + "\n2: {}\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"^params\.yaml: 2: there is no such section\. Known here: corpus, .*, compute\.$"
    ):
        read_section("corpus", CorpusSettings, params)


def test_the_sections_that_a_stage_knows_by_name_are_those_that_there_are() -> None:
    assert tuple(Settings.model_fields) == SECTIONS


def places(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where every setting is, a mapping itself before what it holds."""
    for key in value if isinstance(value, dict) else ():
        yield (*above, key)
        yield from places(value[key], (*above, key))


@pytest.mark.parametrize("wrong", [3, "x", [], {}, None, [3], ["x"], {"x": 3}, [1, 2, 3], ["x", "y"]], ids=repr)
def test_whatever_stands_in_the_place_of_any_setting_is_right_or_told_in_words(root: Path, wrong: Any) -> None:
    values = read_params(root / "params.yaml")
    said: dict[tuple[str, ...], str] = {}
    for path in places(values):
        changed = copy.deepcopy(values[path[0]])
        if len(path) == 1:
            changed = wrong
        else:
            here = changed
            for key in path[1:-1]:
                here = here[key]
            here[path[-1]] = wrong
        field = Settings.model_fields[path[0]].annotation
        assert isinstance(field, type)
        assert issubclass(field, Section)
        try:
            parse_section(path[0], field, changed)
        except UserError as error:
            said[path] = str(error)
    assert said
    assert [path for path, words in said.items() if not words.startswith(f"params.yaml: {path[0]}")] == []


def test_a_pair_and_a_mapping_of_free_keys_are_told_as_every_other_setting(params: Path) -> None:
    change(params, "speed: [0.8, 1.25]", "speed: [0.8]")
    change(params, "warp: [0.85, 1.16]", "warp: 3")
    assert message(params).splitlines() == [
        "params.yaml: augment.speed.1: is missing; allowed: a number above 0.",
        "params.yaml: augment.warp: found 3; allowed: a list of 2, each a number above 0.",
    ]


def test_a_file_with_sections_of_its_own_is_held_against_none_of_these(tmp_path: Path) -> None:
    class Own(Section):
        a: int

    (tmp_path / "own.yaml").write_text("own: {a: 1}\nothers: {}\n")
    assert read_section("own", Own, tmp_path / "own.yaml") == Own(a=1)


def test_beside_another_programs_sections_a_command_reads_its_own(tmp_path: Path) -> None:
    corpus = CorpusSettings(name="a", kind="demo", source="b")
    (tmp_path / "params.yaml").write_text("corpus: {name: c, kind: tess, source: d}\nothers: {}\n")
    assert section_or(corpus, "corpus", tmp_path / "params.yaml").name == "c"
    assert section_or(corpus, "corpus", tmp_path / "none.yaml") is corpus


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected sections such as 'corpus:' and 'train:', found null."),
        (b"- 1\n", "expected sections such as 'corpus:' and 'train:', found [1]."),
        (b"corpus\n", "expected sections such as 'corpus:' and 'train:', found \"corpus\"."),
        (b"corpus: \xff\n", "is not UTF-8 text."),
    ],
)
def test_a_file_that_holds_no_sections_says_so(params: Path, content: bytes, said: str) -> None:
    params.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_params(params)
    assert str(error.value) == f"params.yaml: {said}"


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\). Run this in the root"):
        read_params(tmp_path / "params.yaml")


def test_numbers_may_be_written_as_yaml_writes_them(params: Path) -> None:
    change(params, "learning_rate: …", "learning_rate: 1")
    change(params, "clip_norm: …", "clip_norm: 1e-1")
    optimizer = read_settings(params).train.optimizer
    assert (optimizer.learning_rate, optimizer.clip_norm) == (1.0, 0.1)
    assert isinstance(optimizer.learning_rate, float)


def test_what_may_be_null_may_be_a_section(params: Path) -> None:
    change(params, "early_stopping: null", "early_stopping: {patience: 3}")
    assert read_settings(params).train.early_stopping == EarlyStoppingSettings(patience=3)


def test_settings_are_frozen(params: Path) -> None:
    settings = read_settings(params)
    with pytest.raises(ValueError, match="frozen"):
        settings.train.epochs = 1  # type: ignore[misc]
    assert isinstance(settings.train.network.lstm, tuple)


def test_a_long_value_is_cut_in_the_message(params: Path) -> None:
    change(params, "lstm: […", f"lstm: {[0.5] * 200}")
    assert max(map(len, message(params).splitlines())) < 250
