import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from packaging.utils import canonicalize_name

from helpers.recordings import RATE, encoded, lossy, tone
from helpers.tiny_package import LABELS, make_package
from speech_emotion.audio.decode import AudioError
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.models.package import REQUIRED_DISTRIBUTIONS


def test_predicts_paths_bytes_and_samples(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(tone(), coding="FLOAT"))

    prediction = recognizer.predict(path)

    assert prediction == recognizer.predict(path.read_bytes()) == recognizer.predict(tone(), sample_rate=RATE)
    assert list(prediction.probabilities) == list(LABELS)
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert prediction.confidence == max(prediction.probabilities.values())
    assert prediction.probabilities[prediction.label] == prediction.confidence


def test_temperature_softens_and_keeps_the_label(recognizer: Recognizer, tmp_path: Path) -> None:
    make_package(tmp_path / "soft", temperature=4.0)
    sharp, soft = recognizer.predict(tone(), RATE), Recognizer.load(tmp_path / "soft").predict(tone(), RATE)

    ratio = np.log(list(sharp.probabilities.values())) - np.log(list(soft.probabilities.values())) * 4
    assert soft.label == sharp.label
    assert soft.confidence < sharp.confidence
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-9)


def test_batch_agrees_with_single_predictions(recognizer: Recognizer) -> None:
    rng = np.random.default_rng(0)
    recordings = [encoded(tone(float(rng.uniform(0.3, 9)), hertz=float(rng.uniform(90, 400)))) for _ in range(40)]

    together = recognizer.predict_batch(recordings)

    for recording, answer in zip(recordings, together, strict=True):
        alone = recognizer.predict(recording)
        assert alone.label == answer.label
        np.testing.assert_allclose(list(alone.probabilities.values()), list(answer.probabilities.values()), atol=1e-5)


def test_threads_share_a_recognizer(recognizer: Recognizer) -> None:
    recordings = [encoded(tone(1.0, hertz=100.0 + 20 * n)) for n in range(8)]
    expected = [recognizer.predict(recording) for recording in recordings]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(recognizer.predict, 10 * recordings)) == 10 * expected


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (tone(0.1), r"is shorter than 0.2 s \(0.100 s\)"),
        (tone(10.1), "is longer than 10 s"),
        (np.random.default_rng(2).choice([-1, 0, 1], RATE).astype(np.int16), "is silent"),
    ],
)
def test_limits_of_a_package(recognizer: Recognizer, samples: np.ndarray, reason: str) -> None:
    with pytest.raises(AudioError, match=f"^{reason}"):
        recognizer.predict(samples, RATE)


def test_batch_names_the_unusable_recording(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"")

    with pytest.raises(AudioError, match=r"^recording 1: is not audio that can be read$"):
        recognizer.predict_batch([encoded(tone()), b"text"])
    with pytest.raises(AudioError, match=rf"^{re.escape(str(tmp_path / 'bad.wav'))}: is empty \(0 bytes\)$"):
        recognizer.predict_batch([tmp_path / "bad.wav"])


def test_wrong_calls(recognizer: Recognizer) -> None:
    with pytest.raises(UserError, match=r"^samples need a sample rate: predict\(samples, sample_rate=16000\)$"):
        recognizer.predict(tone())
    with pytest.raises(UserError, match=r"^sample_rate is for samples only"):
        recognizer.predict("clip.wav", 16000)
    with pytest.raises(UserError, match=r"^audio must be a path, bytes or an array of samples, not list$"):
        recognizer.predict([0.0, 0.1])  # type: ignore[arg-type]


def test_damaged_graph(model: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    (broken / "graph.onnx").write_bytes(b"not a graph")
    description = json.loads((broken / "package.json").read_text())
    description["files"]["graph.onnx"] = digest_file(broken / "graph.onnx")
    (broken / "package.json").write_text(json.dumps(description))

    with pytest.raises(UserError, match=r"graph\.onnx: ONNX Runtime cannot load it \([A-Za-z]+\)\.$"):
        Recognizer.load(broken)


def test_prediction_imports_only_what_the_package_requires(model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.webm").write_bytes(lossy("WebM, Opus"))
    program = (
        "import sys; before = set(sys.modules); import speech_emotion;"
        "speech_emotion.load(sys.argv[1]).predict(sys.argv[2]);"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    command = [sys.executable, "-c", program, str(model), str(tmp_path / "clip.webm")]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stderr == ""
    imported = set(done.stdout.split()) - {"speech_emotion"}
    providers = importlib.metadata.packages_distributions()
    distributions: set[str] = {canonicalize_name(name) for module in imported for name in providers.get(module, ())}
    optional = {"ruamel-yaml-clib"}  # imported where installed
    assert distributions - optional <= needed_by(REQUIRED_DISTRIBUTIONS)


def needed_by(distributions: tuple[str, ...]) -> set[str]:
    """Return distributions with everything that they require."""
    found: set[str] = set()
    waiting = list(distributions)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [re.split(r"[ ;<>=!~\[(]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    return found


def test_no_telemetry_of_onnx_runtime(model: Path, tmp_path: Path) -> None:
    # its telemetry writes files before it sends anything; it turns itself off where it detects a test
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST", "ORT"))}
    places = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    subprocess.run(
        [sys.executable, "-c", f"import speech_emotion; speech_emotion.load({str(model)!r})"],
        env=environment | places,
        check=True,
    )

    assert list(tmp_path.iterdir()) == []
