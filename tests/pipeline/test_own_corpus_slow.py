"""Own recordings go from a folder to a promoted version with nothing but params.yaml."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from ruamel.yaml import YAML

from helpers.voices import RATE, voices
from helpers.workspaces import PIPELINE, Workspace, commit, fresh_clone, git, kill, shrink, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PITCHES = {"01": 260.0, "müde": 120.0, "NA": 190.0}
SPEAKERS = ("07", "1e3")
TEXTS = ("Kids are talking by the door", "true")
EACH = 4


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A clone with a folder of FLAC and WAV beside it, whose labels and speakers look like numbers, with two texts."""
    recordings = tmp_path / "eigene Aufnahmen"
    rows = []
    for number, speaker in enumerate(SPEAKERS):
        for emotion, pitch in PITCHES.items():
            folder = recordings / speaker / emotion
            folder.mkdir(parents=True)
            made = voices(EACH * len(TEXTS), seed=number, pitch=pitch * (1 + 0.2 * number))
            for place, samples in enumerate(made):
                path = folder / f"{place}.{'flac' if place % 2 else 'wav'}"
                soundfile.write(path, samples, RATE)
                rows.append((path.relative_to(recordings), emotion, speaker, TEXTS[place // EACH]))
    table = pd.DataFrame(rows, columns=["path", "emotion", "speaker", "text"])
    table.to_csv(recordings / "labels.csv", index=False)
    clone = fresh_clone(tmp_path / "clone")
    shrink(clone)
    made_workspace = Workspace(clone)
    made_workspace.run("speech-emotion", "preset", "demo")
    yaml = YAML()
    content = yaml.load(clone / "params.yaml")
    content["corpus"] |= {"name": "eigene", "kind": "folder", "source": "../eigene Aufnahmen"}
    content["split"]["protocols"] = ["random", "full"]
    yaml.dump(content, clone / "params.yaml")
    commit(clone)
    yield made_workspace
    kill(*made_workspace.processes())


def test_own_corpus_becomes_champion(workspace: Workspace) -> None:
    output = workspace.run("dvc", "repro")

    assert set(stages_run(output)) == set(PIPELINE)
    reports = workspace.folder / "reports" / "eigene"
    assert sorted(path.name for path in (reports / "protocols").iterdir()) == ["full", "random"]
    predictions = pd.read_csv(reports / "protocols/random/predictions.csv", dtype=str, keep_default_na=False)
    for column, expected in {"emotion": PITCHES, "speaker": SPEAKERS, "text": TEXTS}.items():
        assert set(predictions[column]) == set(expected)
    page = re.sub(r'data:image[^"]+', "", (reports / "report.html").read_text())
    assert all(f'<th scope="col">{label}</th>' in page for label in PITCHES)
    assert "other recordings of seen speakers and texts" in page
    assert not any(fact in page for fact in ("TESS", "actress", "OAF", "unseen words"))

    commit(workspace.folder)
    workspace.run("speech-emotion", "promote")
    assert "champion" in workspace.run("speech-emotion", "registry")
    clip = next((workspace.folder.parent / "eigene Aufnahmen").rglob("*.flac"))
    model = "models:/speech-emotion-eigene@champion"
    printed = workspace.run("speech-emotion", "predict", str(clip), "--model", model, "--format", "json")
    [answer] = json.loads(printed[printed.index("[") :])
    assert set(answer["probabilities"]) == set(PITCHES)

    git("config", "user.name", "tests", at=workspace.folder)
    git("config", "user.email", "tests@example.org", at=workspace.folder)
    output = workspace.run("dvc", "exp", "run", "--temp", "-S", "split.seed=8", "split")
    assert "Stage 'download' didn't change" in output  # the source is beside the repository, not beside its copy
    assert stages_run(output) == ["prepare", "split"]

    clip.with_name("new.flac").write_bytes(clip.read_bytes()[:-1])
    assert "eigene Aufnahmen" in workspace.run("dvc", "status", "download")
