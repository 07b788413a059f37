"""Show live predictions: an updating screen on a terminal, one line per prediction elsewhere."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from statistics import median
from typing import Final, Self, TypeAlias

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
_SILENT: Final = "·"
_UNSURE: Final = "?"


class Tally:
    """Summary of a session, for its last line."""

    def __init__(self) -> None:
        self._answers: Counter[str] = Counter()
        self._latencies: list[float] = []

    def add(self, moment: Moment) -> None:
        """Count a window."""
        self._answers[said(moment)] += 1
        self._latencies.append(moment.latency)

    def __str__(self) -> str:
        if not self._latencies:
            return "no prediction: less than one window of audio"
        counted = ", ".join(f"{answer} {count}" for answer, count in self._answers.most_common())
        return f"{len(self._latencies)} answers: {counted}; median latency {1000 * median(self._latencies):.1f} ms"


def said(moment: Moment) -> str:
    """Return the prediction of a window in words."""
    return "no answer" if moment.prediction is None else answer(moment.prediction)


class Lines:
    """One line per window: from, to, prediction, probability, latency, separated by tabs."""

    def __init__(self, title: str) -> None:
        typer.echo(title, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

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
        self._colours = {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(labels)}
        self._moments: deque[Moment] = deque(maxlen=200)
        self._level, self._seconds, self._lost = _QUIETEST_DB, 0.0, 0
        super().__init__(console=console, get_renderable=self.draw, refresh_per_second=12)

    def sound(self, samples: np.ndarray, seconds: float, lost: int) -> None:
        """Update the level: at once when it rises, slowly when it falls."""
        rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
        level = max(_QUIETEST_DB, 20 * np.log10(max(rms, 1e-9)))
        self._level, self._seconds, self._lost = max(level, self._level - 3.0), seconds, lost

    def show(self, moment: Moment) -> None:
        """Update the bars."""
        self._moments.append(moment)

    def draw(self) -> RenderableType:
        """Return the screen as it is now."""
        newest = self._moments[-1] if self._moments else None
        parts = [self._sound(), Text(), self._headline(newest), Text(), self._bars(newest), Text(), self._track()]
        note = "Ctrl-C ends it. The model is trained on acted speech and does not know what a person feels."
        return Panel(Group(*parts), title=escape(self._title), title_align="left", subtitle=note, subtitle_align="left")

    def _sound(self) -> RenderableType:
        table = _grid()
        share = (self._level - _QUIETEST_DB) / -_QUIETEST_DB
        lost = f", {self._lost} blocks lost" if self._lost else ""
        table.add_row("sound", Bar(1.0, 0.0, share), f"{self._level:.0f} dBFS")
        return Group(table, Text(f"{self._seconds:.1f} s of audio{lost}", style="dim"))

    def _headline(self, moment: Moment | None) -> RenderableType:
        if moment is None:
            missing = max(0.0, self._window - self._seconds)
            return Text(f"listening; the first answer in {missing:.1f} s", style="bold")
        text = Text(said(moment), style="bold")
        found = moment.prediction
        if found is None:
            text.append(f"  the window {moment.reason}", style="not bold dim")
        elif not found.sure:
            text.append(f"  closest is {words(found.label)}, {found.confidence:.0%}", style="not bold")
        latencies = [one.latency for one in self._moments]
        text.append(
            f"\n{moment.start:.1f} to {moment.end:.1f} s, answered {1000 * moment.latency:.1f} ms after they came; "
            f"median {1000 * median(latencies):.1f} ms",
            style="not bold dim",
        )
        return text

    def _bars(self, moment: Moment | None) -> RenderableType:
        shares = moment.prediction.probabilities if moment is not None and moment.prediction is not None else {}
        table = _grid()
        for label in self._labels:
            share = shares.get(label, 0.0)
            bar = Bar(1.0, 0.0, share, color=self._colours[label])
            best = moment is not None and moment.prediction is not None and moment.prediction.label == label
            table.add_row(Text(words(label), style="bold" if best else ""), bar, f"{share:.1%}" if shares else "")
        return table

    def _track(self) -> RenderableType:
        """Return one letter per window, the newest at the right."""
        room = max(10, self.console.width - 18)
        line = Text("over time  ", style="dim")
        for moment in list(self._moments)[-room:]:
            found = moment.prediction
            if found is None:
                line.append(_SILENT, style="not dim")
            elif not found.sure:
                line.append(_UNSURE, style="not dim")
            else:
                line.append(found.label[0].upper(), style=f"not dim bold {self._colours[found.label]}")
        line.append(f"\n           {_UNSURE} {NOT_SURE}, {_SILENT} no answer, else the first letter", style="dim")
        return line


Screen: TypeAlias = Moving | Lines


def screen_for(title: str, labels: Sequence[str], window_seconds: float) -> Screen:
    """Return a moving screen on a terminal, else lines."""
    return Moving(title, labels, window_seconds) if sys.stdout.isatty() else Lines(title)


def listen(source: Source, recognizer: Recognizer, settings: WindowSettings, screen: Screen) -> Tally:
    """Predict audio window by window until it ends or Ctrl-C, and return a summary."""
    tally = Tally()

    def show(moments: Iterable[Moment]) -> None:
        for moment in moments:
            tally.add(moment)
            screen.show(moment)

    with source, screen, suppress(KeyboardInterrupt):
        stream = Stream(recognizer, settings, source.sample_rate)
        for block in source:
            show(stream.feed(block))
            screen.sound(block.samples, stream.seconds, source.lost)
        show(stream.finish())
    return tally


def _grid() -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=18, no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(width=9, justify="right", no_wrap=True)
    return table
