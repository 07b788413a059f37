"""Takes nothing; gives Keras on TensorFlow, deterministic, without what TensorFlow says to nobody on its way up."""

import gc
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


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Have packages that were not imported yet appear as if they were not installed."""
    new = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Do without the garbage collector, and keep from it for good what is there in the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


os.environ["KERAS_BACKEND"] = "tensorflow"
# The bits of a matrix product depend on how many threads share it. One, so that a training ends in the same weights on
# two cores and on sixteen; more gain networks of this size next to nothing. Who sets the variables has it otherwise.
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Every training begins with this import. Keras takes scikit-learn and matplotlib where they are, for wrappers and
# pictures that nobody here asks for, and the collector looks again and again through what is there to stay: without
# either it takes two thirds of the time.
with _said_only_if_it_fails(), _hidden("sklearn", "matplotlib"), _uncollected():
    import keras
    import tensorflow

    # one mode for all: switched on later, it would change the bits of what is trained after
    tensorflow.config.experimental.enable_op_determinism()
    # looked for here, so that what is said about a missing GPU is held back too
    tensorflow.config.list_physical_devices("GPU")

__all__ = ["keras", "tensorflow"]
