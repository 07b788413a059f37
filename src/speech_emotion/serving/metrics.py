"""Collect Prometheus metrics and write the log, one JSON object per line."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector


class Metrics:
    """Metrics of the server; `working` returns the number of requests in progress or waiting."""

    def __init__(self, working: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        own: dict[str, Any] = {"registry": self.registry, "namespace": "speech_emotion"}
        self.requests = Counter("requests", "Requests.", ("path", "status"), **own)
        self.seconds = Histogram("request_seconds", "Duration of a request.", ("path",), **own)
        self.recordings = Counter("recordings", "Recordings predicted.", **own)
        self._events = Counter("events", "Other events, such as a new model or a lost worker.", ("event",), **own)
        Gauge("working", "Requests in progress or waiting.", **own).set_function(working)

    def note(self, event: str, *, level: str = "info", **details: Any) -> None:
        """Count an event and write it to the log."""
        self._events.labels(event).inc()
        log(event, level=level, **details)


def log(event: str, *, level: str = "info", **details: Any) -> None:
    """Write a line to standard output; never bodies, addresses or recordings."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = json.dumps({"time": now, "level": level, "event": event, **details})
    with suppress(OSError):  # the reader has gone, or a full disk: neither must stop the server
        os.write(sys.stdout.fileno(), line.encode() + b"\n")
