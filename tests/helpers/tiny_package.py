"""Write a real package that is small enough for fast tests: the mean frame through one dense layer."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from helpers.examples import featurize_settings
from speech_emotion.config.serving import PackageSettings
from speech_emotion.features.mfcc import names
from speech_emotion.models.package import (
    ARCHITECTURE,
    GRAPH,
    WEIGHTS,
    Calibration,
    Package,
    Rejection,
    write_package_files,
)

LABELS = ("angry", "happy", "sad")

FEATURES = featurize_settings()
COEFFICIENTS = len(names(FEATURES))
_STANDARD = (np.zeros(COEFFICIENTS, np.float32), np.ones(COEFFICIENTS, np.float32))

ENROLLED = Calibration(temperature=2.0, rejection=Rejection(threshold=0.9, risk=0.05, coverage=0.5))
"""For a package that accepts speaker profiles."""


def make_package(
    folder: Path,
    *,
    temperature: float = 1.0,
    seed: int = 3,
    enrolled: Calibration | None = None,
    statistics: tuple[np.ndarray, np.ndarray] = _STANDARD,
) -> Package:
    """Write a package whose network has random weights, and knows three emotions."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_mean_graph(folder / GRAPH, seed)
    (folder / ARCHITECTURE).write_text("{}\n")
    (folder / WEIGHTS).write_bytes(b"weights")
    return write_package_files(
        folder,
        corpus="tiny",
        kind="folder",
        protocol="full",
        fold="all",
        labels=LABELS,
        features=FEATURES,
        statistics=statistics,
        lineage={"split": "a" * 64},
        temperature=temperature,
        enrolled=enrolled,
        limits=PackageSettings(min_seconds=0.2, max_seconds=10.0),
    )


def _write_mean_graph(path: Path, seed: int) -> None:
    """Write the graph: logits = mean over real frames @ weights."""
    weights = np.random.default_rng(seed).normal(0, 0.01, (COEFFICIENTS, len(LABELS))).astype(np.float32)
    constants = {
        "weights": weights,
        "start": np.array(0, np.int32),
        "step": np.array(1, np.int32),
        "time": np.array(1, np.int64),
        "rows": np.array([1], np.int64),
        "columns": np.array([0], np.int64),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["frames"], ["shape"]),
        helper.make_node("Gather", ["shape", "time"], ["longest"]),
        helper.make_node("Cast", ["longest"], ["longest_32"], to=TensorProto.INT32),
        helper.make_node("Range", ["start", "longest_32", "step"], ["numbers"]),
        helper.make_node("Unsqueeze", ["numbers", "columns"], ["numbers_row"]),
        helper.make_node("Unsqueeze", ["lengths", "rows"], ["lengths_column"]),
        helper.make_node("Less", ["numbers_row", "lengths_column"], ["real"]),
        helper.make_node("Cast", ["real"], ["real_float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["real_float", "last"], ["mask"]),
        helper.make_node("Mul", ["frames", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "rows"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["lengths_column"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    values = [
        helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["batch", "time", COEFFICIENTS]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "mean", values[:2], values[2:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
