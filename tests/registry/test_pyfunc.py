import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from helpers import recordings, tracked
from helpers.emotion_server import EmotionServer, records
from helpers.services import scoring_server
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.registry.publish import publish
from speech_emotion.tracking import connection

pytest_plugins = ("helpers.mlflow_fixtures",)

TONE = recordings.tone()
WAV = recordings.encoded(TONE)


def text(recording: bytes) -> str:
    return base64.b64encode(recording).decode()


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A workspace with a registered model; for reading."""
    folder = tracked.make_workspace(tmp_path_factory.mktemp("serving") / "workspace")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tracked.package(folder)
        publish(folder, corpus=tracked.CORPUS)
    return folder


@pytest.fixture
def at_home(registered: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the working folder; MLflow's own functions find its registry."""
    monkeypatch.chdir(registered)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", connection.locate().uri)
    return registered


@pytest.fixture
def model(at_home: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(f"models:/{tracked.MODEL}@challenger")


@pytest.fixture(scope="module")
def expected(registered: Path) -> dict[str, Any]:
    """What every way to this package must answer to the tone."""
    recognizer = Recognizer.load(package_of(registered))
    prediction = recognizer.predict(WAV)
    return {
        "label": prediction.label,
        "confidence": pytest.approx(prediction.confidence, abs=1e-6),
        "sure": True,
        "probabilities": pytest.approx(dict(prediction.probabilities), abs=1e-6),
        "windows": [],
        "model": tracked.MODEL,
        "model_version": "1",
        "package_digest": recognizer.package.digest,
    }


def package_of(workspace: Path) -> Path:
    return workspace / "models" / tracked.CORPUS / "package"


def model_folder(workspace: Path) -> Path:
    [found] = (workspace / "mlruns").rglob("MLmodel")
    return found.parent


def ask(model: PyFuncModel, *audio: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = model.predict(pd.DataFrame({"audio": list(audio)})).to_dict("records")
    return rows


def test_batch_keeps_order(model: PyFuncModel, expected: dict[str, Any]) -> None:
    other = text(recordings.encoded(recordings.tone(hertz=500)))

    assert ask(model, text(WAV), other, text(WAV)) == [expected, *ask(model, other), expected]


def test_profiles_are_optional(model: PyFuncModel, expected: dict[str, Any]) -> None:
    table = pd.DataFrame({"audio": [text(WAV)], "profile": [None]}).astype("string")
    bad = pd.DataFrame({"audio": [text(WAV)], "profile": ["{}"]})

    assert model.predict(table).to_dict("records") == [expected]
    with pytest.raises(MlflowException, match="row 0: profile: is not a speaker profile"):
        model.predict(bad)


@pytest.mark.parametrize("wrapped", ["data:audio/wav;base64,{}", "data:audio/webm;codecs=opus;base64,{}", " {}\n"])
def test_wrapped_base64(model: PyFuncModel, expected: dict[str, Any], wrapped: str) -> None:
    assert ask(model, wrapped.format(text(WAV))) == [expected]
    assert ask(model, wrapped.format(base64.encodebytes(WAV).decode())) == [expected]


MISTAKES = [
    ("", "row 1: is empty"),
    ("/etc/hostname!", "row 1: is not base64"),
    (text(recordings.encoded(TONE[:800])), r"row 1: is shorter than 0.2 s \(0.050 s\)"),
    (3.5, "row 1: expected a base64 string, found float"),
]


@pytest.mark.parametrize(("audio", "message"), MISTAKES)
def test_unusable_recording(model: PyFuncModel, audio: Any, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        ask(model, text(WAV), audio)

    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert caught.value.get_http_status_code() == 400
    assert len(str(caught.value)) < 200


def test_text_is_never_a_path(model: PyFuncModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tone").write_bytes(WAV)  # its name is base64, too
    monkeypatch.chdir(tmp_path)

    with pytest.raises(MlflowException, match="is not audio"):
        ask(model, "tone")


@pytest.mark.parametrize(("column", "message"), [("audio", "there is no recording"), ("sound", "expected the column")])
def test_unusable_table(model: PyFuncModel, column: str, message: str) -> None:
    with pytest.raises(MlflowException, match=message):
        model.unwrap_python_model().predict(None, pd.DataFrame({column: pd.Series([], dtype=str)}))


def test_model_folder(registered: Path) -> None:
    folder = model_folder(registered)

    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".joblib"}]
    assert "python_model:" not in (folder / "MLmodel").read_text()
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in requirement for requirement in requirements)
    assert {"mlflow", "numpy", "onnxruntime", "soundfile"} <= {line.partition("==")[0] for line in requirements}


@pytest.mark.slow
def test_without_the_library(at_home: Path) -> None:
    program = """
import sys
def is_ours(place):
    return place.rstrip("/").endswith("/src") or "editable" in place
sys.path = [place for place in sys.path if not is_ours(place)]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path_hooks = [hook for hook in sys.path_hooks if "editable" not in getattr(hook, "__module__", "")]
try:
    import speech_emotion
    raise SystemExit("the library is still there")
except ImportError:
    pass
import json, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pandas.DataFrame({"audio": [sys.stdin.read()]})).to_dict("records")[0]
places = [module.__file__ for name, module in sys.modules.items() if name.startswith("speech_emotion.")]
print(json.dumps({"answer": answer, "places": places, "modules": sorted(sys.modules)}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    recording = recordings.encoded_by_ffmpeg(recordings.tone(rate=44100), "mp4", "aac", rate=44100)

    done = subprocess.run(
        [sys.executable, "-c", program, f"models:/{tracked.MODEL}@challenger"],
        env=environment,
        input=text(recording),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )

    found = json.loads(done.stdout.splitlines()[-1])
    assert found["answer"]["model_version"] == "1"
    assert all("/mlruns/" in place for place in found["places"])
    assert not {"tensorflow", "keras", "librosa"} & set(found["modules"])


def test_moved_model_folder(registered: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    moved = shutil.copytree(model_folder(registered), tmp_path / "moved")
    (moved / "registered_model_meta").unlink()

    model = mlflow.pyfunc.load_model(str(moved))

    assert ask(model, text(WAV)) == [expected | {"model": "", "model_version": ""}]


@pytest.mark.slow
def test_mlflow_server(at_home: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = [
        {"dataframe_records": [{"audio": text(WAV)}]},
        {"dataframe_split": {"columns": ["audio"], "data": [[text(WAV)]]}},
        {"inputs": {"audio": [text(WAV)]}},
        {"instances": [{"audio": text(WAV)}]},
    ]
    environment = {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}
    with scoring_server(f"models:/{tracked.MODEL}@challenger", tmp_path, environment) as server:
        client = EmotionServer(server.uri, server.process, tmp_path)
        for form in forms:
            status, body, _ = client.ask(form)
            assert (status, json.loads(body)) == (200, {"predictions": [expected]})
        status, body, _ = client.ask(records(b"hello, world" * 1000))

    assert status == 400
    assert "row 0: is not audio that can be read" in json.loads(body)["message"]
    assert len(body) < 1000
