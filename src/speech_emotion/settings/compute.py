"""The section `compute`: how many workers share the parallel work. No result depends on it."""

from typing import Annotated

from pydantic import Field

from speech_emotion.settings.base import Section


class ComputeSettings(Section):
    """Where parallel work runs."""

    workers: Annotated[int, Field(ge=1, le=1024)] | None
    """Processes; null: one a core."""
