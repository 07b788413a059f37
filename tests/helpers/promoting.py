"""The worker process of the test of concurrent promotions, in a module that `multiprocessing` can import."""

import os
from threading import BrokenBarrierError
from typing import Any

from helpers import released


def promote_in_step(folder: str, uri: str, barrier: Any, orders: Any) -> None:
    """Promote each version in `orders`, in step with the other workers at the barrier, until None comes."""
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    while (version := orders.get()) is not None:
        try:
            barrier.wait(timeout=60)
        except BrokenBarrierError:
            return
        released.ask(version, mode="off", reason=f"by {os.getpid()}")
        barrier.wait(timeout=60)
