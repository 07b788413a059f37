"""The sections `corpus`, `download` and `prepare`: where recordings come from and which are accepted."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from speech_emotion.settings.base import Section

CorpusName = Literal["tess", "demo", "folder"]


class CorpusSettings(Section):
    """Which corpus, and where the user's copy of it lies."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    """Names the folders below data/, models/ and reports/, the MLflow experiment and the registered model."""
    kind: CorpusName
    """How the recordings are laid out and labelled."""
    source: Annotated[str, Field(min_length=1)]
    """A folder or a zip of the user's; for `tess`, `data/incoming` may be empty of audio."""


class DownloadSettings(Section):
    """How the official server is asked."""

    server: Annotated[str, Field(pattern=r"^https?://")]
    persistent_id: Annotated[str, Field(pattern=r"^doi:")]
    connections: Annotated[int, Field(ge=1, le=16)]
    timeout_seconds: Annotated[float, Field(gt=0, le=600)]
    retries: Annotated[int, Field(ge=0, le=20)]


class PrepareSettings(Section):
    """Which recordings are good enough to be learned from."""

    bad_recordings: Literal["stop", "leave out"]
    min_seconds: Annotated[float, Field(gt=0)]
    max_seconds: Annotated[float, Field(gt=0)]
    silence_dbfs: Annotated[float, Field(le=0)]
    """A recording whose peak stays below this level is silent."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"a min_seconds ({self.min_seconds:g}) below max_seconds ({self.max_seconds:g})")
        return self
