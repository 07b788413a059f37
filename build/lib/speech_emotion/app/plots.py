"""Draw predictions, waveform and spectrogram as HTML without scripts or external resources.

Images stretch to the width of the page and their axes are text, so that labels keep their size on a phone. Each image
has a text alternative; colours are CSS variables for light and dark mode.
"""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from typing import Final

import numpy as np
import soundfile

from speech_emotion.app.analysis import Analysis, Attention
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.features.mfcc import Extractor
from speech_emotion.inference.recognizer import Prediction
from speech_emotion.inference.windows import Window

COLUMNS: Final = 700
"""Of a picture, at most: more than the page is wide in pixels at an ordinary density."""

FLOOR_DB: Final = -70.0
"""The spectrogram's darkest colour, below its loudest."""

_FINEST_HOP: Final = 64
# matplotlib's magma at equal steps, as in the project's other pictures, without importing matplotlib
_MAGMA: Final = np.array(
    [
        *((0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122)),
        *((229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191)),
    ],
    dtype=np.float64,
)
NOT_SURE: Final = "not sure"


def words(label: str) -> str:
    """Return a label as a person writes it."""
    return label.replace("_", " ")


@dataclass(frozen=True)
class Notes:
    """What is said beside every answer of a model.

    Attributes
    ----------
    why_not_sure : str
        What makes an answer not sure.
    caveat : str
        How often an answer is right.
    """

    why_not_sure: str
    caveat: str


def verdict(name: str, analysis: Analysis, notes: Notes) -> str:
    """Return the answer to the recording called `name` in a line, and below it how it is meant."""
    found = analysis.answer.whole
    if found.sure:
        line, below = words(found.label), f"The model gives it a probability of {found.confidence:.0%}."
    else:
        line = NOT_SURE
        below = f"Closest is {words(found.label)}, with {found.confidence:.0%}. {notes.why_not_sure}"
    return (
        f'<p class="se-said">{escape(name)}, {analysis.seconds:.1f} s</p><p class="se-label">{escape(line)}</p>'
        f'<p class="se-below">{escape(below)} {escape(notes.caveat)}</p>'
    )


def refusal(message: str) -> str:
    """Return why a recording has no answer."""
    return f'<p class="se-refusal" role="alert">{escape(message)}</p>'


def details(analysis: Analysis, settings: FeaturizeSettings) -> str:
    """Return everything but the answer itself: probabilities, sound, what it rests on, and how it changes."""
    label = words(analysis.answer.whole.label)
    axis = _Axis(analysis.seconds)
    parts = [
        _probabilities(analysis.answer.whole),
        _player(analysis),
        f'<div class="se-panels{" se-long" if analysis.answer.windows else ""}">',
        _wave(analysis, axis),
        _attention(analysis.attention, analysis.seconds, label),
        _spectrogram(analysis, settings),
        _timeline(analysis.answer.windows, analysis.seconds) if analysis.answer.windows else "",
        axis.html,
        "</div>",
        _windows_table(analysis.answer.windows) if analysis.answer.windows else "",
    ]
    return "".join(parts)


def runs(windows: Sequence[Window]) -> list[tuple[float, float, str]]:
    """Return stretches of windows with one answer: where they begin and end in seconds, and the prediction.

    Windows overlap; each stands for the seconds about its middle.
    """
    spans = list(zip(windows, _places(windows), strict=True))
    stretches = []
    for answer, members in groupby(spans, key=lambda one: _answer(one[0].prediction)):
        places = [place for _, place in members]
        stretches.append((places[0][0], places[-1][1], answer))
    return stretches


def _probabilities(found: Prediction) -> str:
    rows = []
    for label, share in found.probabilities.items():
        best = ' class="se-best"' if label == found.label else ""
        bar = f'<span class="se-bar" style="width:{100 * share:.2f}%"></span>'
        rows.append(
            f'<tr{best}><th scope="row">{escape(words(label))}</th><td class="se-track" aria-hidden="true">{bar}</td>'
            f"<td>{share:.1%}</td></tr>"
        )
    return (
        '<table class="se-bars"><caption>Probability of each emotion</caption><thead class="se-hidden"><tr>'
        f'<th scope="col">emotion</th><th></th><th scope="col">probability</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _player(analysis: Analysis) -> str:
    file = io.BytesIO()
    soundfile.write(file, analysis.wave, analysis.sample_rate, format="WAV", subtype="PCM_16")
    source = f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"
    return (
        f'<p class="se-caption">Input of the model: one channel, {analysis.sample_rate / 1000:g} kHz</p>'
        f'<audio class="se-player" controls aria-label="The recording as the model receives it" src="{source}"></audio>'
    )


def _wave(analysis: Analysis, axis: "_Axis") -> str:
    columns = np.array_split(analysis.wave, min(COLUMNS, len(analysis.wave)))
    high = np.array([part.max() for part in columns])
    low = np.array([part.min() for part in columns])
    peak = float(np.abs(analysis.wave).max())
    top = _round_up(peak)
    x = np.linspace(0, 1000, len(columns))
    outline = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    points = " ".join(f"{a:.1f},{50 - 50 * b / top:.2f}" for a, b in outline)
    picture = f'<polygon class="se-wave" points="{points}" vector-effect="non-scaling-stroke"/>'
    level = 20 * math.log10(peak)
    return _panel(
        "Wave",
        "share of full scale",
        _svg(axis.lines + picture),
        [(top, f"+{top:g}"), (0.0, "0"), (-top, f"−{top:g}")],
        (-top, top),
        f"Wave of the recording: {analysis.seconds:.1f} seconds, peak at {level:.0f} dBFS.",
        height="5.5rem",
    )


def _attention(attention: Attention, seconds: float, label: str) -> str:
    lost = attention.lost
    top = _round_up(max(float(np.abs(lost).max()), 0.1))
    bars = []
    for number, value in enumerate(lost):
        left = max(0.0, attention.start + (number - 0.5) * attention.step)
        right = min(seconds, attention.start + (number + 0.5) * attention.step)
        high = 50 * abs(value) / top
        kind, y = ("se-for", 50 - high) if value >= 0 else ("se-against", 50.0)
        x, width = 1000 * left / seconds, 1000 * max(0.0, right - left) / seconds
        bars.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{high:.2f}"/>')
    best = attention.start + int(lost.argmax()) * attention.step
    zero = '<line class="se-line" x1="0" x2="1000" y1="50" y2="50" vector-effect="non-scaling-stroke"/>'
    return _panel(
        "What the model listened to",
        f"log-odds of “{escape(label)}” lost when that moment is hidden, in nats",
        _svg("".join(bars) + zero),
        [(top, f"+{top:g}"), (0.0, "0"), (-top, f"−{top:g}")],
        (-top, top),
        f"What the answer {label} rests on: most on the moment at {best:.1f} seconds, which carries "
        f"{max(float(lost.max()), 0.0):.1f} nats.",
        height="5.5rem",
        legend='<span class="se-key se-for"></span>speaks for it <span class="se-key se-against"></span>against it',
    )


def _spectrogram(analysis: Analysis, settings: FeaturizeSettings) -> str:
    hop = max(_FINEST_HOP, len(analysis.wave) // COLUMNS)
    power = Extractor(settings.model_copy(update={"hop_length": hop})).power(analysis.wave)
    decibels = 10 * np.log10(np.maximum(power, 1e-12))
    shares = np.clip((decibels - decibels.max()) / -FLOOR_DB + 1, 0, 1).T[::-1]
    steps = np.linspace(0, 1, len(_MAGMA))
    pixels = np.stack([np.interp(shares, steps, _MAGMA[:, channel]) for channel in range(3)], axis=-1)
    image = f'<img alt="" src="data:image/png;base64,{_png(pixels.round().astype(np.uint8))}"/>'
    top = analysis.sample_rate / 2000
    ticks = [(float(khz), f"{khz}") for khz in range(0, int(top) + 1, 2)]
    loudest = decibels.mean(axis=0).argmax() * analysis.sample_rate / 2 / (power.shape[1] - 1)
    return _panel(
        "Spectrogram",
        "kHz",
        image,
        ticks,
        (0.0, top),
        f"Spectrogram up to {top:g} kilohertz; on average it is loudest at {loudest:.0f} hertz.",
        height="8rem",
        legend=f'<span class="se-scale"></span>{-FLOOR_DB:.0f} to 0 dB below the loudest',
    )


def _timeline(windows: Sequence[Window], seconds: float) -> str:
    labels = list(windows[0].prediction.probabilities)
    places = _places(windows)
    rows = []
    for label in labels:
        cells = "".join(
            f'<span style="{_across(place, seconds)};opacity:{window.prediction.probabilities[label]:.3f}"></span>'
            for window, place in zip(windows, places, strict=True)
        )
        rows.append(f'<div class="se-row"><b>{escape(words(label))}</b><div class="se-cells">{cells}</div></div>')
    stretches = runs(windows)
    cells = "".join(
        f'<span class="{"se-unsure" if answer == NOT_SURE else "se-sure"}" style="{_across((start, end), seconds)}"'
        f' title="{start:.1f} to {end:.1f} s: {escape(answer)}">{escape(answer)}</span>'
        for start, end, answer in stretches
    )
    said = "; ".join(f"{start:.1f} to {end:.1f} seconds {answer}" for start, end, answer in stretches)
    length = windows[0].end - windows[0].start
    return (
        f'<div class="se-panel"><p class="se-name">Emotion over time <small>window by window, {length:g} s each; '
        "the stronger the colour, the more probable</small></p>"
        f'<div role="img" aria-label="Emotion over time: {escape(said)}.">{"".join(rows)}'
        f'<div class="se-row"><b>predicted</b><div class="se-cells se-spans">{cells}</div></div></div></div>'
    )


def _windows_table(windows: Sequence[Window]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{window.start:.1f} to {window.end:.1f}</th><td>{escape(_answer(window.prediction))}</td>'
        f"<td>{escape(words(window.prediction.label))}</td><td>{window.prediction.confidence:.1%}</td></tr>"
        for window in windows
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("seconds", "answer", "most probable", "confidence"))
    return (
        '<details class="se-table"><summary>The windows as a table</summary><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _answer(found: Prediction) -> str:
    return words(found.label) if found.sure else NOT_SURE


def _places(windows: Sequence[Window]) -> list[tuple[float, float]]:
    """Return the seconds that each window stands for: as far as halfway to its neighbours' middles."""
    middles = [(window.start + window.end) / 2 for window in windows]
    borders = [(before + after) / 2 for before, after in pairwise(middles)]
    return list(zip([windows[0].start, *borders], [*borders, windows[-1].end], strict=True))


def _across(place: tuple[float, float], seconds: float) -> str:
    return f"left:{100 * place[0] / seconds:.2f}%;width:{100 * (place[1] - place[0]) / seconds:.2f}%"


@dataclass(frozen=True)
class _Axis:
    """Seconds, below all pictures."""

    seconds: float

    @property
    def ticks(self) -> list[float]:
        step = _round_up(self.seconds / 6)
        return [number * step for number in range(int(self.seconds / step + 1e-9) + 1)]

    @property
    def html(self) -> str:
        ticks = "".join(
            f'<span style="left:{100 * tick / self.seconds:.2f}%">{tick:g}{" s" if tick == 0 else ""}</span>'
            for tick in self.ticks
        )
        return f'<div class="se-row se-axis" aria-hidden="true"><b>time</b><div class="se-cells">{ticks}</div></div>'

    @property
    def lines(self) -> str:
        return "".join(
            f'<line class="se-line" x1="{x}" x2="{x}" y1="0" y2="100" vector-effect="non-scaling-stroke"/>'
            for x in (round(1000 * tick / self.seconds, 1) for tick in self.ticks[1:])
        )


def _panel(
    name: str,
    unit: str,
    picture: str,
    ticks: Sequence[tuple[float, str]],
    limits: tuple[float, float],
    said: str,
    *,
    height: str,
    legend: str = "",
) -> str:
    low, high = limits
    marks = "".join(_mark((high - value) / (high - low), text) for value, text in ticks)
    key = f'<span class="se-legend">{legend}</span>' if legend else ""
    return (
        f'<div class="se-panel"><p class="se-name">{name} <small>{unit}</small>{key}</p>'
        f'<div class="se-plot" role="img" aria-label="{escape(said)}" style="height:{height}">'
        f'<div class="se-ticks" aria-hidden="true">{marks}</div><div class="se-picture">{picture}</div></div></div>'
    )


def _mark(share: float, text: str) -> str:
    """Return a label at a share of the picture's height, itself within the picture."""
    return f'<i style="top:{100 * share:.1f}%;transform:translateY(-{100 * share:.0f}%)">{text}</i>'


def _svg(content: str) -> str:
    return f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{content}</svg>'


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, … (or a tenth, a hundredth of them) that is not below a value."""
    return next(step for step in _nice(value) if step >= value * 0.999)


def _nice(value: float) -> Iterator[float]:
    exponent = math.floor(math.log10(max(value, 1e-6)))
    for power in (exponent, exponent + 1):
        for one in (1, 2, 5):
            yield float(f"{one}e{power}")
