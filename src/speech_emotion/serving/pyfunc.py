"""Takes audio, one recording a row; gives its label, probabilities and versions. MLflow runs this very file.

Over HTTP a recording is a base64 string in the column `audio`, in any container and at any sample rate that
`speech_emotion.audio` reads. In Python it may also be bytes, a `pathlib.Path`, or a tuple of samples and their rate.
A string is always base64, never a path: who can reach the server must not read its files.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from speech_emotion.errors import UserError
from speech_emotion.inference import Prediction, Recognizer

COLUMN: Final = "audio"
LONGEST_BYTES: Final = 32 * 2**20
"""Of one recording; a minute of 48 kHz stereo in 24 bits has 17 million."""

_DATA_URL: Final = re.compile(r"data:[^,]{0,200};base64,")


class SpeechEmotion(PythonModel):
    """A package behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the package; MLflow insists on the parameter's name."""
        folder = Path(context.artifacts["package"])
        self._recognizer = Recognizer.load(folder)
        self._versions = {
            "model": "",
            "model_version": "",
            **_registered(folder.parent.parent),
            "package_digest": self._recognizer.package.digest,
        }

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer one row a recording, in their order.

        Parameters
        ----------
        context : PythonModelContext
        model_input : pd.DataFrame [columns=(audio,)]
            Each a base64 string, bytes, a Path, or (samples, sample rate in Hz).
        params : mapping, optional
            There are none.

        Returns
        -------
        pd.DataFrame [columns=(label, confidence, probabilities, model, model_version, package_digest)]
            `probabilities` holds a dictionary by label.

        Raises
        ------
        MlflowException
            With INVALID_PARAMETER_VALUE: a recording cannot be used; says which row and why.
        """
        rows = [self._row(number, audio) for number, audio in enumerate(_recordings(model_input))]
        return pd.DataFrame(rows)

    def _row(self, number: int, audio: Any) -> dict[str, Any]:
        try:
            prediction = self._answer(audio)
        except UserError as error:
            raise _refusal(f"row {number}: {error}") from None
        return {
            "label": prediction.label,
            "confidence": prediction.confidence,
            "probabilities": dict(prediction.probabilities),
            **self._versions,
        }

    def _answer(self, audio: Any) -> Prediction:
        if isinstance(audio, str):
            return self._recognizer.predict(_decode(audio))
        if isinstance(audio, tuple) and len(audio) == 2:
            samples, sample_rate = audio
            return self._recognizer.predict(np.asarray(samples), int(sample_rate))
        if isinstance(audio, (bytes, Path)):
            return self._recognizer.predict(audio)
        raise UserError(f"expected a base64 string, found {type(audio).__name__}")


def _recordings(model_input: Any) -> list[Any]:
    if isinstance(model_input, pd.DataFrame) and list(model_input.columns) == [COLUMN]:
        recordings = model_input[COLUMN].tolist()
    else:
        raise _refusal(f"expected one column, {COLUMN!r}")
    if not recordings:
        raise _refusal("there is no recording in the request")
    return recordings


def _decode(text: str) -> bytes:
    """Return what base64 text stands for; the prefix of a data URL and line ends are passed over."""
    if len(text) > LONGEST_BYTES * 4 // 3:
        raise UserError(f"is longer than {LONGEST_BYTES // 2**20} MiB")
    body = text[match.end() :] if (match := _DATA_URL.match(text)) else text
    try:
        recording = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UserError("is not base64; over HTTP a recording is the base64 text of its file") from None
    if not recording:
        raise UserError("is empty")
    return recording


def _registered(model: Path) -> dict[str, str]:
    """Return the name and number that MLflow notes beside a model that it took from the registry."""
    note = model / "registered_model_meta"
    if not note.is_file():
        return {}
    from ruamel.yaml import YAML

    content = YAML(typ="safe").load(note.read_text(encoding="utf-8"))
    return {"model": str(content["model_name"]), "model_version": str(content["model_version"])}


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(SpeechEmotion())
