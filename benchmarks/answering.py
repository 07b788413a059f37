"""Time from a recording to its prediction, compared with the reference notebook and with MLflow's server.

    TESS_DIR=/path/to/tess python benchmarks/answering.py

* One clip from memory, warm, one core: `Recognizer.predict` against librosa and `model.predict`.
* One clip in a new process: `speech-emotion predict` against the notebook.
* All of TESS: `speech-emotion predict FOLDER --output` against the notebook's loop, extrapolated from a few clips.
* 64 clients: `speech-emotion serve` against `mlflow models serve` with the same model.
"""

import json
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import measuring
import peers
import workspace
from measuring import Figure, Times
from speech_emotion.core.errors import UserError
from speech_emotion.registry.model_resolution import PRETRAINED

CLIPS: Final = 40


def main() -> None:
    """Measure, and write results/answering.json."""
    given = measuring.options(__doc__).parse_args()
    corpus = workspace.tess()
    if given.tiny:
        corpus = corpus.cut(42)
    repeats = 1 if given.tiny else 3
    clips = measuring.some(corpus.paths, 4 if given.tiny else CLIPS)
    with measuring.one_core():
        own, notebook = _one_clip(clips, repeats)
    with tempfile.TemporaryDirectory() as folder:
        cold, cold_notebook = _cold(Path(folder), clips[0], repeats)
        batch = _batch(corpus, Path(folder), repeats)
        rates = _serve(Path(folder), clips[0], seconds=2 if given.tiny else 15)
    count = len(corpus.paths)
    loop = Times((notebook.median * count,) * repeats)
    figures = [
        Figure.of("clip", [1000 * one for one in own.seconds]),
        Figure.ratio("clip ratio", own, notebook),
        Figure.of("cold", cold.seconds, f"the notebook: {cold_notebook.median:.3g} s"),
        Figure.of("batch", [count / one for one in batch.seconds], f"{count} recordings"),
        Figure.ratio("batch ratio", batch, loop),
        Figure.of(
            "serve", [rates["ours"] / rates["mlflow"]], "{ours:.0f} against {mlflow:.0f} per second".format(**rates)
        ),
    ]
    measuring.write_figures("answering", figures, tiny=given.tiny)


def _one_clip(clips: Sequence[Path], repeats: int) -> tuple[Times, Times]:
    recorded = [path.read_bytes() for path in clips]
    with ExitStack() as stack:
        makers = {"ours": _ours, "notebook": _notebook}
        ways = {name: stack.enter_context(measuring.apart(make, recorded)) for name, make in makers.items()}
        times = measuring.interleaved(ways, repeats)
    return times["ours"].scaled(1 / len(clips)), times["notebook"].scaled(1 / len(clips))


def _ours() -> Callable[[bytes], object]:
    import speech_emotion

    return speech_emotion.load().predict


def _notebook() -> Callable[[bytes], object]:
    return partial(peers.predict, peers.reference_network())


def _cold(folder: Path, clip: Path, repeats: int) -> tuple[Times, Times]:
    model = folder / "reference.keras"
    peers.reference_network().save(model)
    script = str(Path(__file__).with_name("peers.py"))
    times = measuring.interleaved(
        {
            "ours": lambda: measuring.run("speech-emotion", "predict", str(clip)),
            "notebook": lambda: measuring.run("python", script, str(model), str(clip)),
        },
        repeats,
    )
    return times["ours"], times["notebook"]


def _batch(corpus: workspace.Corpus, folder: Path, repeats: int) -> Times:
    output = folder / "predictions.csv"

    def predict_all() -> None:
        output.unlink(missing_ok=True)
        measuring.run("speech-emotion", "predict", str(made.raw), "--output", str(output))

    with workspace.made_of(corpus) as made:
        return measuring.interleaved({"ours": predict_all}, repeats)["ours"]


def _serve(folder: Path, clip: Path, *, seconds: float) -> dict[str, float]:
    """Return the answers per second of both servers, one after the other."""
    _save_mlflow_model(folder / "model")
    ours = ("speech-emotion", "serve", "--port")
    mlflow = ("mlflow", "models", "serve", "-m", "model", "--env-manager", "local", "-p")
    return {name: _rate(folder, clip, seconds, *command) for name, command in {"ours": ours, "mlflow": mlflow}.items()}


def _save_mlflow_model(folder: Path) -> None:
    import mlflow

    from speech_emotion.registry import pyfunc

    mlflow.pyfunc.save_model(
        folder, python_model=pyfunc.__file__, artifacts={"package": str(PRETRAINED)}, pip_requirements=["mlflow"]
    )


def _rate(folder: Path, clip: Path, seconds: float, *command: str) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"
    with open(log, "wb") as output, measuring.started(*command, port, folder=folder, output=output):
        _wait(f"{address}/ping", log)
        script = str(Path(__file__).with_name("serving.py"))
        options = ("--uri", address, "--clients", "64", "--seconds", str(seconds), "--json", "--recording", str(clip))
        done = measuring.run("python", script, *options)
    return float(json.loads(done.output)["rate"])


def _wait(address: str, log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise UserError(f"{address} does not answer:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    measuring.main(main)
