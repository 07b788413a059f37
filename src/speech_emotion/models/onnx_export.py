"""Export a trained network as an ONNX graph.

The graph is written by hand with ONNX's LSTM operator. The general converter turns a masked Keras LSTM into loops of
small operators and names dimensions differently at each run, so that equal models would have different bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from speech_emotion.config.training import NetworkSettings
from speech_emotion.core.io import replacing
from speech_emotion.models.network import HEADS, VARIANCE_FLOOR, prefixes

LayerWeights = Mapping[str, list[np.ndarray]]

OPSET = 17
IR_VERSION = 8


def write_graph(path: Path, settings: NetworkSettings, weights: LayerWeights, *, coefficients: int) -> None:
    """Write the network as an ONNX graph.

    `settings` are what it was built from, `weights` from `layer_weights`, `coefficients` the features per frame. Inputs
    are `frames` (batch, time, coefficients) float32, zero padded, and `lengths` (batch,) int32. The output is
    `logits` (batch, labels). Equal networks give equal bytes.
    """
    model = _Builder(settings, weights, coefficients).model()
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def layer_weights(model: Any) -> LayerWeights:
    """Return the weights of a Keras model by layer name, without the states of its dropout generators."""
    return {
        layer.name: [np.asarray(weight) for weight in layer.get_weights()]
        for layer in model.layers
        if layer.weights and "dropout" not in layer.name
    }


@dataclass(frozen=True)
class _Steps:
    """Tensor names that describe which steps of a sequence are not padding (`real` is None: all)."""

    lengths: str
    real: str | None
    count: str


class _Builder:
    """Build the graph node by node."""

    def __init__(self, settings: NetworkSettings, weights: LayerWeights, coefficients: int) -> None:
        self.settings = settings
        self.weights = weights
        self.coefficients = coefficients
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        self.node("Identity", [self._network()], "logits")
        labels = self.weights["logits"][0].shape[1]
        graph = helper.make_graph(
            self.nodes,
            "speech_emotion",
            [
                helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["batch", "time", self.coefficients]),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
            [constant for constant in self.constants if any(constant.name in node.input for node in self.nodes)],
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="speech-emotion",
        )

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        if name not in (one.name for one in self.constants):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def _network(self) -> str:
        sequence = "frames"
        if "standardize" in self.weights:
            mean, deviation = self.weights["standardize"]
            sequence = self.node("Sub", [sequence, self.constant("mean", mean)], "centred")
            sequence = self.node("Div", [sequence, self.constant("deviation", deviation)], "standardized")
        # ONNX's LSTM reads time first: (time, batch, coefficients)
        sequence = self.node("Transpose", [sequence], "time_first", perm=[1, 0, 2])
        steps = self._real_frames(sequence, "lengths", "frames")
        if self.settings.stack > 1:
            sequence, steps = self._stack(sequence, steps)
        if self.settings.input == "time_mean":
            rows = self.node("Transpose", [self._mean(sequence, "time_mean", steps)], "coefficients_first", perm=[1, 0])
            sequence = self.node("Unsqueeze", [rows, self.constant("axis_2", [2], np.int64)], "coefficients_as_steps")
            steps = _Steps(lengths="", real=None, count=self.constant("coefficients", float(self.coefficients)))
        members = [self._member(sequence, steps, prefix) for prefix in prefixes(self.settings)]
        return members[0] if len(members) == 1 else self.node("Mean", members, "mean_logits")

    def _member(self, sequence: str, steps: _Steps, prefix: str) -> str:
        """Write the layers of one member; return its logits."""
        last = ""
        for number, units in enumerate(self.settings.lstm, start=1):
            sequence, last = self._lstm(sequence, steps, f"{prefix}lstm_{number}", units)
        hidden = last if self.settings.pooling == "last" else self._pool(sequence, f"{prefix}pool", steps)
        for number in range(1, len(self.settings.dense) + 1):
            name = f"{prefix}dense_{number}"
            hidden = self.node("Relu", [self._dense(hidden, name)], f"{name}_relu")
            if self.settings.batch_norm:
                hidden = self._batch_norm(hidden, f"{name}_norm")
        return self._dense(hidden, f"{prefix}logits", output=f"{prefix}logits_of_labels")

    def _real_frames(self, sequence: str, lengths: str, name: str) -> _Steps:
        """Build the mask of steps that are not padding from `lengths`."""
        shape = self.node("Shape", [sequence], f"{name}_shape")
        steps = self.node("Gather", [shape, self.constant("first", 0, np.int64)], f"{name}_count")
        steps = self.node("Cast", [steps], f"{name}_count_32", to=TensorProto.INT32)
        start, step = self.constant("start", 0, np.int32), self.constant("step", 1, np.int32)
        numbers = self.node("Range", [start, steps, step], f"{name}_numbers")
        column = self.node("Unsqueeze", [numbers, self.constant("axis_1", [1], np.int64)], f"{name}_numbers_column")
        row = self.node("Unsqueeze", [lengths, self.constant("axis_0", [0], np.int64)], f"{name}_lengths_row")
        less = self.node("Less", [column, row], f"{name}_less")
        real = self.node("Unsqueeze", [less, self.constant("axis_last", [2], np.int64)], f"{name}_real")
        floats = self.node("Cast", [lengths], f"{name}_lengths_float", to=TensorProto.FLOAT)
        count = self.node("Unsqueeze", [floats, self.constant("axis_column", [1], np.int64)], f"{name}_lengths_column")
        return _Steps(lengths=lengths, real=real, count=count)

    def _stack(self, frames: str, steps: _Steps) -> tuple[str, _Steps]:
        """Join groups of consecutive frames to one step, the last one filled with zeros."""
        size, count = self.settings.stack, self.constant("stack", self.settings.stack, np.int32)
        zeroed = self.node("Where", [steps.real or "", frames, self.constant("stack_zero", 0.0)], "stack_zeroed")
        by_batch = self.node("Transpose", [zeroed], "stack_by_batch", perm=[1, 0, 2])
        missing = self.node("Mod", [self.node("Neg", ["frames_count_32"], "stack_negative"), count], "stack_missing")
        missing = self.node("Reshape", [missing, self.constant("one_element", [1], np.int64)], "stack_missing_1")
        missing = self.node("Cast", [missing], "stack_missing_64", to=TensorProto.INT64)
        before, after = self.constant("pads_before", [0] * 4, np.int64), self.constant("pads_after", [0], np.int64)
        pads = self.node("Concat", [before, missing, after], "stack_pads", axis=0)
        padded = self.node("Pad", [by_batch, pads], "stack_padded")
        shape = self.constant("stack_shape", [0, -1, size * self.coefficients], np.int64)
        joined = self.node("Reshape", [padded, shape], "stack_joined")
        sequence = self.node("Transpose", [joined], "stack_time_first", perm=[1, 0, 2])
        more = self.node("Add", [steps.lengths, self.constant("stack_less_one", size - 1, np.int32)], "stack_more")
        lengths = self.node("Div", [more, count], "stack_lengths")
        return sequence, self._real_frames(sequence, lengths, "steps")

    def _lstm(self, sequence: str, steps: _Steps, name: str, units: int) -> tuple[str, str]:
        stored = self.weights[name]
        directions = [stored[start : start + 3] for start in range(0, len(stored), 3)]
        inputs = [
            sequence,
            self.constant(f"{name}_W", [_gates(kernel.T, units) for kernel, _, _ in directions]),
            self.constant(f"{name}_R", [_gates(recurrent.T, units) for _, recurrent, _ in directions]),
            # ONNX has a bias of the input and one of the state; Keras has their sum
            self.constant(
                f"{name}_B", [np.concatenate([_gates(bias, units), np.zeros(4 * units)]) for _, _, bias in directions]
            ),
            steps.lengths,
        ]
        outputs = [f"{name}_sequence", f"{name}_last"]
        direction = "bidirectional" if len(directions) == 2 else "forward"
        self.nodes.append(helper.make_node("LSTM", inputs, outputs, name=name, hidden_size=units, direction=direction))
        width = units * len(directions)
        # (time, directions, batch, units) and (directions, batch, units): the directions side by side
        rows = self.node("Transpose", [outputs[0]], f"{name}_by_batch", perm=[0, 2, 1, 3])
        sequence = self.node(
            "Reshape", [rows, self.constant(f"{name}_shape", [0, 0, width], np.int64)], f"{name}_joined"
        )
        rows = self.node("Transpose", [outputs[1]], f"{name}_last_by_batch", perm=[1, 0, 2])
        last = self.node("Reshape", [rows, self.constant(f"{name}_flat", [0, width], np.int64)], f"{name}_last_joined")
        if self.settings.lstm_relu:
            sequence = self.node("Relu", [sequence], f"{name}_relu")
            last = self.node("Relu", [last], f"{name}_last_relu")
        return sequence, last

    def _mean(self, sequence: str, name: str, steps: _Steps) -> str:
        if steps.real:
            zero = self.constant(f"{name}_zero", 0.0)
            sequence = self.node("Where", [steps.real, sequence, zero], f"{name}_real")
        axes = self.constant(f"{name}_axes", [0], np.int64)
        return self.node(
            "Div", [self.node("ReduceSum", [sequence, axes], f"{name}_sum", keepdims=0), steps.count], name
        )

    def _pool(self, sequence: str, name: str, steps: _Steps) -> str:
        if self.settings.pooling == "max":
            if steps.real:
                sequence = self.node("Where", [steps.real, sequence, self.constant("never", -1e9)], f"{name}_real")
            return self.node("ReduceMax", [sequence], name, axes=[0], keepdims=0)
        if self.settings.pooling == "attention":
            pooled = self._mean_and_deviation(sequence, name, steps)
            attended = self._attention(sequence, name.replace("pool", "attention"), steps)
            return self.node("Concat", [pooled, attended], f"{name}_and_attention", axis=1)
        if self.settings.pooling == "mean":
            return self._mean(sequence, name, steps)
        return self._mean_and_deviation(sequence, name, steps)

    def _attention(self, sequence: str, name: str, steps: _Steps) -> str:
        """Write the layer `PoolByAttention`."""
        parts = zip(("kernel", "bias", "query"), self.weights[name], strict=True)
        kernel, bias, query = (self.constant(f"{name}_{part}", value) for part, value in parts)
        inner = self.node("Add", [self.node("MatMul", [sequence, kernel], f"{name}_inner"), bias], f"{name}_sum")
        scores = self.node("MatMul", [self.node("Tanh", [inner], f"{name}_tanh"), query], f"{name}_scores")
        never = self.constant(f"{name}_never", -1e9)
        scores = self.node("Where", [steps.real, scores, never], f"{name}_real") if steps.real else scores
        weights = self.node("Softmax", [scores], f"{name}_weights", axis=0)
        weights = self.node("Transpose", [weights], f"{name}_by_head", perm=[1, 2, 0])
        by_batch = self.node("Transpose", [sequence], f"{name}_by_batch", perm=[1, 0, 2])
        means = self.node("MatMul", [weights, by_batch], f"{name}_means")
        width = HEADS * 2**self.settings.bidirectional * self.settings.lstm[-1]
        return self.node("Reshape", [means, self.constant(f"{name}_shape", [0, width], np.int64)], name)

    def _mean_and_deviation(self, sequence: str, name: str, steps: _Steps) -> str:
        mean = self._mean(sequence, f"{name}_mean", steps)
        centred = self.node("Sub", [sequence, mean], f"{name}_centred")
        squares = self.node("Mul", [centred, centred], f"{name}_squares")
        variance = self._mean(squares, f"{name}_variance", steps)
        floored = self.node("Add", [variance, self.constant("variance_floor", VARIANCE_FLOOR)], f"{name}_floored")
        return self.node("Concat", [mean, self.node("Sqrt", [floored], f"{name}_deviation")], name, axis=1)

    def _dense(self, inputs: str, name: str, *, output: str | None = None) -> str:
        kernel, bias = self.weights[name]
        parameters = [self.constant(f"{name}_W", kernel), self.constant(f"{name}_B", bias)]
        return self.node("Gemm", [inputs, *parameters], output or name)

    def _batch_norm(self, inputs: str, name: str) -> str:
        parts = zip(("scale", "offset", "mean", "variance"), self.weights[name], strict=True)
        named = [self.constant(f"{name}_{part}", value) for part, value in parts]
        return self.node("BatchNormalization", [inputs, *named], name, epsilon=1e-3)


def _gates(values: np.ndarray, units: int) -> np.ndarray:
    """Reorder gates from Keras's (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
    gate_in, forget, cell, out = (values[start : start + units] for start in range(0, 4 * units, units))
    return np.concatenate([gate_in, out, forget, cell])
