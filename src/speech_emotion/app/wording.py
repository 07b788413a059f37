"""Put predictions and what is known of the model into words, for the page and the terminal."""

import re
from collections.abc import Sequence
from html import escape
from typing import Final

from speech_emotion.evaluation.enrolment import NONE
from speech_emotion.evaluation.model_card import CARD, overall
from speech_emotion.inference.recognizer import Prediction, Recognizer
from speech_emotion.inference.windows import Window
from speech_emotion.models.package import Package, Rejection

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
"""The palette of Okabe and Ito; grey instead of black, which a dark background hides."""

LONG_ENOUGH: Final = 10
"""Seconds of speech that a profile should be made from."""

NOT_SURE: Final = "not sure"

ALWAYS: Final = (
    "A prediction does not say what a person feels. Do not base decisions about people on it, and do not analyse "
    "people who do not know of it."
)

UNKNOWN: Final = "This package has no model card: its accuracy for an unseen speaker is unknown."


def words(label: str) -> str:
    """Return a label as a person writes it."""
    return label.replace("_", " ")


def answer(found: Prediction) -> str:
    """Return the predicted emotion, or that the model is not sure."""
    return words(found.label) if found.sure else NOT_SURE


def verdict(name: str, seconds: float, found: Prediction, recognizer: Recognizer) -> str:
    """Return the prediction for the recording called `name` as HTML, with the two most probable emotions."""
    (_, best), (second, next_best) = sorted(found.probabilities.items(), key=lambda item: -item[1])[:2]
    following = f"{words(second)}, with {next_best:.0%}"
    if found.sure:
        below = f"The model gives it a probability of {best:.0%}; next is {following}."
    else:
        below = (
            f"Closest is {words(found.label)}, with {best:.0%}; next is {following}. "
            f"{why_not_sure(recognizer.rejection)}"
        )
    return (
        f'<p class="se-said">{escape(name)}, {seconds:.1f} s</p><p class="se-label">{escape(answer(found))}</p>'
        f'<p class="se-below">{escape(below)} {escape(caveat(recognizer, sure=found.sure))}</p>'
    )


def enrolled(seconds: float) -> str:
    """Return as HTML that the speaker's voice is taken into account."""
    longer = "" if seconds >= LONG_ENOUGH / 2 else f" About {LONG_ENOUGH} s are better."
    return f'<p class="se-own" role="status">Your voice is taken into account ({seconds:.1f} s).{longer}</p>'


def refusal(message: str) -> str:
    """Return as HTML why a recording has no prediction."""
    return f'<p class="se-refusal" role="alert">{escape(message)}</p>'


def rows(windows: Sequence[Window]) -> list[list[str]]:
    """Return a row per window: seconds, answer, most probable emotion and its probability."""
    return [
        [
            f"{window.start:.1f} to {window.end:.1f}",
            answer(window.prediction),
            words(window.prediction.label),
            f"{window.prediction.confidence:.1%}",
        ]
        for window in windows
    ]


def small_print(package: Package) -> str:
    """Return the summary of the model card, if there is one, and what is true of every model."""
    card = package.folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    summary = re.search(r"^## Summary\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return f"{summary[1].strip() if summary else UNKNOWN}\n\n{ALWAYS}"


def caveat(recognizer: Recognizer, *, sure: bool) -> str:
    """Return how often the model is right, or for a sure prediction, the share of sure predictions that were right."""
    speaker = recognizer.package.evaluation().get("speaker")
    if speaker is None:
        return UNKNOWN
    found = overall(speaker, "3 neutral" if recognizer.has_profile else NONE)
    risk = (found.get("rejection") or {}).get("risk")
    right = found.get("answered_right", None if risk is None else 1 - risk)
    whom = "unseen speakers with a profile" if recognizer.has_profile else "unseen speakers"
    if sure and right is not None:
        return f"For {whom}, {right:.0%} of the answers above the threshold were right."
    uar, chance = found["uar"], 1 / len(recognizer.labels)
    return f"For {whom}, this model was right {uar:.0%} of the time, on average over emotions; guessing, {chance:.0%}."


def why_not_sure(rejection: Rejection | None) -> str:
    """Return when the model abstains."""
    if rejection is None:
        return ""
    return (
        f"Below {rejection.threshold:.0%} this model gives no answer: on the validation data, "
        f"{1 - rejection.risk:.0%} of the answers above it were right."
    )
