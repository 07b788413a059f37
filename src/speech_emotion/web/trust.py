"""Takes a package; gives in Markdown how far its answers can be trusted: the small print of the page."""

import re
from typing import Final

from speech_emotion.card import CARD
from speech_emotion.package import Package

ALWAYS: Final = (
    "No answer says what a person feels. Use it for no decision about anybody, and listen to nobody who does not know."
)

UNKNOWN: Final = "This package has no model card: nobody has written down how often it is right about a new voice."


def small_print(package: Package) -> str:
    """Return the summary of the package's model card, or that there is none, and what holds of every model."""
    card = package.folder / CARD
    short = _section(card.read_text(encoding="utf-8"), "In short") if card.is_file() else None
    return f"{short or UNKNOWN}\n\n{ALWAYS}"


def caveat(package: Package) -> str:
    """Return in one sentence how often an answer is right in a voice that is new to the model, as far as is known."""
    speaker = package.evidence().get("speaker")
    if speaker is None:
        return UNKNOWN
    share, chance = speaker["mean"]["uar"], 1 / len(package.labels)
    return f"In a voice that it has never heard, this model was right {share:.0%} of the time; guessing, {chance:.0%}."


def why_not_sure(package: Package) -> str:
    """Return what makes an answer of this package not sure, in words."""
    rejection = package.description.rejection
    if rejection is None:
        return ""
    return (
        f"Below {rejection.threshold:.0%} this model gives no answer: where that was chosen, "
        f"{1 - rejection.risk:.0%} of the answers above it were right."
    )


def _section(card: str, name: str) -> str | None:
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", card, flags=re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else None
