"""Import Keras on TensorFlow, deterministic and with one thread per operation."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
# The bits of a matrix product depend on the number of threads. With one thread, a training ends in the same weights on
# any number of cores, and networks of this size lose little. Variables that are set already take precedence.
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402 - after the environment
import tensorflow  # noqa: E402

tensorflow.config.experimental.enable_op_determinism()

__all__ = ["keras", "tensorflow"]
