"""The MLflow model: audio in, label, probabilities, windows and versions out. MLflow runs this file.

A recording is a base64 string in the column `audio`, never a path: a client must not read the server's files. The
column `profile` is optional: the JSON text of a speaker profile, or empty.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from speech_emotion.core.errors import UserError
from speech_emotion.inference.recognizer import Recognizer
from speech_emotion.inference.response import COLUMN, PROFILE, decode_base64, row
from speech_emotion.inference.windows import WindowedRecognizer


class SpeechEmotion(PythonModel):
    """A package behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the package; MLflow insists on the parameter's name."""
        folder = Path(context.artifacts["package"])
        recognizer = Recognizer.load(folder)
        self._windowed = WindowedRecognizer(recognizer)
        self._versions = {**_registered(folder.parent.parent), "package_digest": recognizer.package.digest}

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict the emotion of each recording, in order; docs/serving.md describes the columns.

        A recording that cannot be used raises MlflowException with INVALID_PARAMETER_VALUE, its row and the reason.
        """
        columns = set(model_input.columns) if isinstance(model_input, pd.DataFrame) else set()
        if COLUMN not in columns or columns - {COLUMN, PROFILE}:
            raise _refusal(f"expected the column {COLUMN!r}, and optionally {PROFILE!r}")
        if model_input.empty:
            raise _refusal("there is no recording in the request")
        profiles = model_input[PROFILE].tolist() if PROFILE in columns else [None] * len(model_input)
        rows = zip(model_input[COLUMN].tolist(), profiles, strict=True)
        return pd.DataFrame([self._row(number, *cells) for number, cells in enumerate(rows)])

    def _row(self, number: int, audio: Any, profile: Any) -> dict[str, Any]:
        try:
            if not isinstance(audio, str):
                raise UserError(f"expected a base64 string, found {type(audio).__name__}")
            # MLflow fills an empty cell with NaN
            windowed = self._windowed.of_speaker(profile if isinstance(profile, str) else None)
            return row(windowed(decode_base64(audio)), self._versions)
        except UserError as error:
            raise _refusal(f"row {number}: {error}") from None


def _registered(model: Path) -> dict[str, str]:
    """Return the name and number that MLflow writes beside a model that it took from the registry."""
    note = model / "registered_model_meta"
    if not note.is_file():
        return {"model": "", "model_version": ""}
    from ruamel.yaml import YAML

    content = YAML(typ="safe").load(note.read_text(encoding="utf-8"))
    return {"model": str(content["model_name"]), "model_version": str(content["model_version"])}


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(SpeechEmotion())
