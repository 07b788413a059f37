"""Show live predictions: an updating screen on a terminal, one line per prediction elsewhere."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from statistics import median
from typing import TypeAlias

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
from speech_emotion.inference.recognizer import Prediction, Recognizer


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

    def show(self, moment: Moment) -> None:
        """Print the line."""
        found = moment.prediction
        if found is None:
            text, share = moment.reason, ""
        else:
            text, share = words(found.label) + ("" if found.sure else f", {NOT_SURE}"), f"{found.confidence:.3f}"
        cells = (f"{moment.start:.2f}", f"{moment.end:.2f}", text, share, f"{1000 * moment.latency:.1f} ms")
        typer.echo("\t".join(cells))


class Moving(Live):
    """Moving bars on a terminal."""

    def __init__(self, title: str, labels: Sequence[str], console: Console | None = None) -> None:
        self._title, self._labels = title, labels
        super().__init__(self._drawn(None), console=console)

    def show(self, moment: Moment) -> None:
        """Update the bars."""
        self.update(self._drawn(moment), refresh=True)

    def _drawn(self, moment: Moment | None) -> RenderableType:
        note = "Ctrl-C ends it. The model is trained on acted speech and does not know what a person feels."
        parts = Group(_headline(moment), Text(), self._bars(None if moment is None else moment.prediction))
        return Panel(parts, title=escape(self._title), title_align="left", subtitle=note, subtitle_align="left")

    def _bars(self, found: Prediction | None) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=18, no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(width=9, justify="right", no_wrap=True)
        for number, label in enumerate(self._labels):
            share = 0.0 if found is None else found.probabilities[label]
            style = "bold" if found is not None and found.label == label else ""
            bar = Bar(1.0, 0.0, share, color=COLOURS[number % len(COLOURS)])
            table.add_row(Text(words(label), style=style), bar, "" if found is None else f"{share:.1%}")
        return table


def _headline(moment: Moment | None) -> Text:
    if moment is None:
        return Text("listening", style="bold")
    text = Text(said(moment), style="bold")
    found = moment.prediction
    if found is None:
        text.append(f"  the window {moment.reason}", style="not bold dim")
    elif not found.sure:
        text.append(f"  closest is {words(found.label)}, {found.confidence:.0%}", style="not bold")
    latency = f"latency {1000 * moment.latency:.1f} ms"
    text.append(f"\n{moment.start:.1f} to {moment.end:.1f} s, {latency}", style="not bold dim")
    return text


Screen: TypeAlias = Moving | Lines
