"""Show live predictions: an updating screen on a terminal, one line per prediction elsewhere."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from statistics import median
from typing import Final, TypeAlias

import numpy as np
import typer
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from speech_emotion.app.live.sources import Source
from speech_emotion.app.live.stream import Moment, Stream
from speech_emotion.app.wording import COLOURS, NOT_SURE, answer, words
from speech_emotion.config.serving import WindowSettings
from speech_emotion.inference.recognizer import Recognizer

_QUIETEST_DB: Final = -60.0


def listen(source: Source, recognizer: Recognizer, settings: WindowSettings, screen: "Screen") -> str:
    """Predict audio window by window until it ends or Ctrl-C, and return a summary."""
    answers: Counter[str] = Counter()
    latencies: list[float] = []

    def show(moments: Iterable[Moment]) -> None:
        for moment in moments:
            answers[said(moment)] += 1
            latencies.append(moment.latency)
            screen.show(moment)

    with screen, suppress(KeyboardInterrupt):
        stream = Stream(recognizer, settings, source.sample_rate)
        for block in source:
            show(stream.feed(block))
            screen.sound(block.samples, stream.seconds, source.lost)
        show(stream.finish())
    if not latencies:
        return "no prediction: less than one window of audio"
    counted = ", ".join(f"{name} {count}" for name, count in answers.most_common())
    return f"{len(latencies)} answers: {counted}; median latency {1000 * median(latencies):.1f} ms"


def said(moment: Moment) -> str:
    """Return the prediction of a window in words."""
    return "no answer" if moment.prediction is None else answer(moment.prediction)


class Lines(nullcontext[None]):
    """One line per window: from, to, prediction, probability, latency, separated by tabs."""

    def __init__(self, title: str) -> None:
        super().__init__()
        typer.echo(title, err=True)

    def sound(self, samples: np.ndarray, seconds: float, lost: int) -> None:
        """Show nothing."""

    def show(self, moment: Moment) -> None:
        """Print the line."""
        found = moment.prediction
        if found is None:
            text, share = moment.reason, ""
        else:
            text, share = words(found.label) + ("" if found.sure else f", {NOT_SURE}"), f"{found.confidence:.3f}"
        cells = (f"{moment.start:.2f}", f"{moment.end:.2f}", text, share, f"{1000 * moment.latency:.1f} ms")
        typer.echo("\t".join(cells))
        sys.stdout.flush()


class Moving(Live):
    """Moving bars on a terminal."""

    def __init__(
        self, title: str, labels: Sequence[str], window_seconds: float, console: Console | None = None
    ) -> None:
        self._title, self._labels, self._window = title, labels, window_seconds
        self._newest: Moment | None = None
        self._latencies: deque[float] = deque(maxlen=200)
        self._level, self._seconds, self._lost = _QUIETEST_DB, 0.0, 0
        super().__init__(console=console, get_renderable=self.draw, refresh_per_second=12)

    def sound(self, samples: np.ndarray, seconds: float, lost: int) -> None:
        """Update the level: at once when it rises, slowly when it falls."""
        rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        level = max(_QUIETEST_DB, 20 * np.log10(max(rms, 1e-9)))
        self._level, self._seconds, self._lost = max(level, self._level - 3.0), seconds, lost

    def show(self, moment: Moment) -> None:
        """Update the bars."""
        self._newest = moment
        self._latencies.append(moment.latency)

    def draw(self) -> RenderableType:
        """Return the screen as it is now."""
        note = "Ctrl-C ends it. The model is trained on acted speech and does not know what a person feels."
        parts = Group(self._sound(), Text(), self._headline(), Text(), self._bars())
        return Panel(parts, title=escape(self._title), title_align="left", subtitle=note, subtitle_align="left")

    def _sound(self) -> RenderableType:
        table = _grid()
        share = (self._level - _QUIETEST_DB) / -_QUIETEST_DB
        lost = f", {self._lost} blocks lost" if self._lost else ""
        table.add_row("sound", Bar(1.0, 0.0, share), f"{self._level:.0f} dBFS")
        return Group(table, Text(f"{self._seconds:.1f} s of audio{lost}", style="dim"))

    def _headline(self) -> RenderableType:
        moment = self._newest
        if moment is None:
            missing = max(0.0, self._window - self._seconds)
            return Text(f"listening; the first answer in {missing:.1f} s", style="bold")
        text = Text(said(moment), style="bold")
        found = moment.prediction
        if found is None:
            text.append(f"  the window {moment.reason}", style="not bold dim")
        elif not found.sure:
            text.append(f"  closest is {words(found.label)}, {found.confidence:.0%}", style="not bold")
        text.append(
            f"\n{moment.start:.1f} to {moment.end:.1f} s, answered {1000 * moment.latency:.1f} ms after they came; "
            f"median {1000 * median(self._latencies):.1f} ms",
            style="not bold dim",
        )
        return text

    def _bars(self) -> RenderableType:
        found = None if self._newest is None else self._newest.prediction
        table = _grid()
        for number, label in enumerate(self._labels):
            share = 0.0 if found is None else found.probabilities[label]
            style = "bold" if found is not None and found.label == label else ""
            bar = Bar(1.0, 0.0, share, color=COLOURS[number % len(COLOURS)])
            table.add_row(Text(words(label), style=style), bar, "" if found is None else f"{share:.1%}")
        return table


Screen: TypeAlias = Moving | Lines


def screen_for(title: str, labels: Sequence[str], window_seconds: float) -> Screen:
    """Return a moving screen on a terminal, else lines."""
    return Moving(title, labels, window_seconds) if sys.stdout.isatty() else Lines(title)


def _grid() -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=18, no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(width=9, justify="right", no_wrap=True)
    return table
