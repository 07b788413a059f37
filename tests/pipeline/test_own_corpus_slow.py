"""Recordings of one's own, in another language, through the whole pipeline with nothing but params.yaml."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from ruamel.yaml import YAML

from helpers.voices import RATE, voices
from helpers.workspaces import PIPELINE, Workspace, commit, fresh_clone, kill, shrink, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PITCHES = {"fröhlich": 260.0, "müde": 120.0, "wütend": 190.0}
SPEAKERS = ("Anna Lena", "Jörg")
EACH = 8


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A clone whose corpus is a folder beside it: speaker/emotion/clip, FLAC and WAV, two protocols of four."""
    for number, speaker in enumerate(SPEAKERS):
        for emotion, pitch in PITCHES.items():
            folder = tmp_path / "eigene Aufnahmen" / speaker / emotion
            folder.mkdir(parents=True)
            for place, samples in enumerate(voices(EACH, seed=number, pitch=pitch * (1 + 0.2 * number))):
                soundfile.write(folder / f"{place}.{'flac' if place % 2 else 'wav'}", samples, RATE)
    clone = fresh_clone(tmp_path / "clone")
    shrink(clone)
    made = Workspace(clone)
    made.run("speech-emotion", "preset", "demo")
    yaml = YAML()
    content = yaml.load(clone / "params.yaml")
    content["corpus"] = {"name": "eigene", "kind": "folder", "source": "../eigene Aufnahmen"}
    content["split"]["protocols"] = ["random", "full"]
    content["promote"]["against_champion"] = ["random"]
    yaml.dump(content, clone / "params.yaml")
    commit(clone)
    yield made
    kill(*made.processes())


def test_a_folder_of_ones_own_becomes_a_registered_model(workspace: Workspace) -> None:
    output = workspace.run("dvc", "repro")

    assert {stage.partition("@")[0] for stage in stages_run(output)} == set(PIPELINE)
    reports = workspace.folder / "reports" / "eigene"
    assert sorted(path.name for path in (reports / "protocols").iterdir()) == ["full", "random"]
    assert all(label in (reports / "report.html").read_text() for label in PITCHES)
    assert "challenger" in workspace.run("speech-emotion", "registry")
    clip = next((workspace.folder.parent / "eigene Aufnahmen").rglob("*.flac"))
    model = "models:/speech-emotion-eigene@challenger"
    said = workspace.run("speech-emotion", "predict", str(clip), "--model", model, "--format", "json")
    [answer] = json.loads(said[said.index("[") :])
    assert set(answer["probabilities"]) == set(PITCHES)

    said = workspace.run("dvc", "metrics", "show", "--json")
    shown = json.loads(said[said.index("{") :])[""]["data"]
    assert set(shown["reports/eigene/metrics.json"]["data"]) == {"random", "full"}

    again = workspace.run("dvc", "repro")
    assert stages_run(again) == ["publish"]

    # a recording that comes to the folder is noticed
    clip.with_name("new.flac").write_bytes(clip.read_bytes()[:-1])
    assert "eigene" in workspace.run("dvc", "status")
