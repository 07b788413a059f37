"""Takes what happens in the server; gives it to Prometheus, and to the log as one JSON object a line."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from speech_emotion.registry.model_source import Model

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """What Prometheus reads at `/metrics`.

    Parameters
    ----------
    working : callable
        Gives the number of requests that are being answered or wait for it.
    """

    def __init__(self, working: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        own: dict[str, Any] = {"registry": self._registry, "namespace": "speech_emotion"}
        self.requests = Counter("requests", "Requests answered.", ("path", "status"), **own)
        self.seconds = Histogram(
            "request_seconds", "From the first byte to the answer.", ("path",), buckets=_SECONDS, **own
        )
        self.recordings = Counter("recordings", "Recordings answered.", **own)
        self.events = Counter("events", "What else happened: a model changed, a worker ended.", ("event",), **own)
        Gauge("working", "Requests that are being answered or wait for it.", **own).set_function(working)
        self._model = Gauge(
            "model_info", "The model that answers.", ("model", "model_version", "package_digest"), **own
        )

    def model(self, model: Model) -> None:
        """Name the model that answers from now on."""
        self._model.clear()
        self._model.labels(model.name, model.version, model.digest).set(1)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self._registry)


class Log:
    """One JSON object a line: time, level, event and its details; never a body, an address or a recording."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        # what uvicorn itself has to say goes the same way
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_Json())
        logging.getLogger("uvicorn").handlers = [handler]
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        logging.getLogger("uvicorn").propagate = False

    def __call__(self, event: str, *, level: str = "info", **details: Any) -> None:
        """Write a line about what happened, and count it."""
        self._count(event)
        self.line(event, level=level, **details)

    def line(self, event: str, *, level: str = "info", **details: Any) -> None:
        """Write a line."""
        try:
            print(_line(level, event, details), flush=True)
        except BrokenPipeError:  # nobody reads it any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError:  # a full disk must not stop the answers
            pass


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        details = {"trace": self.formatException(record.exc_info)} if record.exc_info else {}
        return _line(record.levelname.lower(), record.getMessage(), details)


def _line(level: str, event: str, details: dict[str, Any]) -> str:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    return json.dumps({"time": stamp, "level": level, "event": event, **details})
