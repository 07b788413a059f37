"""The sections `corpus`, `download`, `prepare` and `split`."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from speech_emotion.config.base import Section

CorpusName = Literal["tess", "ravdess", "crema_d", "savee", "emodb", "demo", "folder", "mix"]
"""Each is a module of data/corpora."""

PUBLISHED = tuple(name for name in get_args(CorpusName) if name not in ("demo", "folder", "mix"))
"""The corpora with official servers and checksums."""


class CorpusSettings(Section):
    """Which corpus, and where the user's copy is."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    """Names folders in data/, models/ and reports/, the experiment and the registered model. Shells see it."""
    kind: CorpusName
    source: Annotated[str, Field(min_length=1)]
    """A folder or zip of recordings; of a mix, a folder with a sub-folder for each corpus. A published corpus is
    downloaded if this is `data/incoming` and empty."""
    corpora: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")], ...] = ()
    checksums: Literal["require", "ignore"] = "require"
    """`ignore`: accept recordings of a published corpus by their name, such as copies that were decoded from another
    format. Their figures are not those of the original recordings."""
    labels: dict[str, str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.kind == "mix") != bool(self.corpora):
            raise ValueError("corpora with kind 'mix', and only with it")
        if len(set(self.corpora)) != len(self.corpora) or {"mix", "folder", "demo"} & set(self.corpora):
            raise ValueError("each of the corpora once, and no mix within a mix")
        return self

    def member(self, name: str) -> "CorpusSettings":
        """Return the settings of one corpus of a mix: the sub-folder `name` of `source`."""
        return self.model_copy(
            update={"kind": self.kind_of(name), "source": f"{self.source}/{name}", "corpora": (), "labels": {}}
        )

    @staticmethod
    def kind_of(name: str) -> CorpusName:
        """Return the kind of a corpus of a mix: that of its name, or `folder`."""
        return name if name in get_args(CorpusName) else "folder"  # type: ignore[return-value]


class DownloadSettings(Section):
    """The official server of a corpus, and how files are downloaded."""

    server: Annotated[str, Field(pattern=r"^https?://")] | None = None
    persistent_id: Annotated[str, Field(pattern=r"^doi:")] | None = None
    connections: Annotated[int, Field(ge=1, le=16)]
    timeout_seconds: Annotated[float, Field(gt=0, le=600)]
    retries: Annotated[int, Field(ge=0, le=20)]


class PrepareSettings(Section):
    """Which recordings can be used."""

    bad_recordings: Literal["stop", "leave_out"]
    min_seconds: Annotated[float, Field(gt=0)]
    max_seconds: Annotated[float, Field(gt=0)]
    silence_dbfs: Annotated[float, Field(le=0)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"a min_seconds ({self.min_seconds:g}) below max_seconds ({self.max_seconds:g})")
        return self


Protocol = Literal["random", "word", "speaker", "corpus", "full"]

PROTOCOLS = get_args(Protocol)
"""In reporting order."""


class SplitSettings(Section):
    """Shares are of utterances, or of speakers or texts where a part holds whole ones (see `data.splits.make`)."""

    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    test_share: Annotated[float, Field(gt=0, lt=1)]
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    speaker_folds: Annotated[int, Field(ge=2)] | None = None
    test_speakers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("a test_share and a validation_share that together leave something to train on (below 1)")
        if len(set(self.protocols)) != len(self.protocols):
            raise ValueError("each protocol once")
        if "full" not in self.protocols:
            raise ValueError("a list with 'full' in it: it is the model that is packaged")
        return self
