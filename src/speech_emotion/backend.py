"""Takes nothing; gives Keras on TensorFlow, deterministic, without what TensorFlow says to nobody on its way up."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _said_only_if_it_fails() -> Iterator[None]:
    """Hold back what native code writes to standard error; TensorFlow 2.21 heeds no setting before it is loaded."""
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        real = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)


os.environ["KERAS_BACKEND"] = "tensorflow"
# The bits of a matrix product depend on how many threads share it. One, so that a training ends in the same weights on
# two cores and on sixteen; more gain networks of this size next to nothing. Who sets the variables has it otherwise.
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _said_only_if_it_fails():
    import keras
    import tensorflow

    # one mode for all: switched on later, it would change the bits of what is trained after
    tensorflow.config.experimental.enable_op_determinism()
    # looked for here, so that what is said about a missing GPU is held back too
    tensorflow.config.list_physical_devices("GPU")

__all__ = ["keras", "tensorflow"]
