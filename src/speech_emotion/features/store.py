"""Read features from the Parquet shards of featurize."""

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file
from speech_emotion.features.frames import StoredFrames
from speech_emotion.features.mfcc import names, spec_digest

INDEX: Final = "_features.json"
"""The underscore makes Parquet readers skip this file when they read the folder."""

RECORDED: Final = "recorded"
"""Version name of the original recordings; augmented copies have other names."""

SCHEMA: Final = pa.schema(
    [("id", pa.string()), ("version", pa.string()), ("n_frames", pa.int32()), ("frames", pa.list_(pa.float32()))]
)
"""One row per utterance and version; `frames` is (n_frames, coefficients) in row-major order."""


class FeatureStore:
    """The features of a corpus, by utterance id.

    Parameters
    ----------
    folder : Path
        Output of featurize.

    Attributes
    ----------
    settings : FeaturizeSettings
    augment : dict
        Settings of the augmented copies; empty without any.
    names : tuple of str
        Names of the features of a frame.
    versions : tuple of str
        Names of the versions, in alphabetical order.
    digest : str
        SHA-256 of the settings and all shards.

    Raises
    ------
    UserError
        The folder is not a feature store, or not one of this version.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / INDEX
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            self.settings = FeaturizeSettings.model_validate_json(json.dumps(content["settings"]))
            self.augment: dict[str, Any] = dict(content["augment"] or {})
            self.names = tuple(map(str, content["names"]))
            self.spec_digest = str(content["spec_digest"])
            self._shards = [(str(shard["version"]), folder / shard["file"]) for shard in content["shards"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{index}: is missing or damaged. Run `dvc repro featurize`.") from None
        if self.spec_digest != spec_digest(self.settings):
            raise UserError(f"{index}: was written by another version of the feature code. Run `dvc repro featurize`.")
        self.versions = tuple(sorted({version for version, _ in self._shards}))
        self.digest = digest_file(index)
        self._stored = len(self.names)
        self._columns: list[int] | None = None

    def narrowed(self, settings: FeaturizeSettings) -> Self:
        """Select fewer cepstra or no prosody, without a new extraction.

        A cepstrum does not depend on the number of cepstra or on the prosodic tracks. `digest` stays that of the whole
        store. Raise a UserError if the settings differ in something else.
        """
        wanted = names(settings)
        same = self.settings.model_copy(update={"n_mfcc": settings.n_mfcc, "prosody": settings.prosody})
        if same != settings or not set(wanted) <= set(self.names):
            raise UserError(
                f"the features in {self._shards[0][1].parent if self._shards else 'the store'} do not contain those "
                "that the model needs. Run `dvc repro`."
            )
        narrow = copy.copy(self)
        narrow.settings, narrow.names, narrow.spec_digest = settings, wanted, spec_digest(settings)
        narrow._columns = None if wanted == self.names else [self.names.index(name) for name in wanted]
        return narrow

    @property
    def coefficients(self) -> int:
        """Number of features per frame."""
        return len(self.names)

    def read(self, ids: Sequence[str], version: str = RECORDED, *, scratch: Path | None = None) -> Sequence[np.ndarray]:
        """Return the frames of utterances, in the given order, each [shape=(t, coefficients)], float32.

        Parameters
        ----------
        ids : sequence of str
        version : str
            Version: the original or an augmented copy.
        scratch : Path or None
            Folder of a temporary file that holds the frames; None: in memory.

        Raises
        ------
        UserError
            An utterance is missing.
        """
        wanted = set(ids)
        places: dict[str, int] = {}

        def wanted_frames() -> Iterator[np.ndarray]:
            for name, frames in self.utterances(version):
                if name in wanted:
                    places[name] = len(places)
                    yield frames

        found = StoredFrames(wanted_frames(), scratch) if scratch else list(wanted_frames())
        missing = sorted(wanted - places.keys())
        if missing:
            raise UserError(f"{len(missing)} utterances have no features, the first is {missing[0]}. Run `dvc repro`.")
        order = [places[name] for name in ids]
        return found.ordered(order) if isinstance(found, StoredFrames) else [found[place] for place in order]

    def utterances(self, version: str = RECORDED) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (id, frames [shape=(t, coefficients)]) of every utterance of a version."""
        for _, shard in (one for one in self._shards if one[0] == version):
            table = pq.read_table(shard, schema=SCHEMA)
            values = table["frames"].combine_chunks()
            flat = values.values.to_numpy(zero_copy_only=False)
            ends = values.offsets.to_numpy()
            for name, start, end in zip(table["id"].to_pylist(), ends[:-1], ends[1:], strict=True):
                frames = flat[start:end].reshape(-1, self._stored)
                yield name, frames if self._columns is None else np.ascontiguousarray(frames[:, self._columns])
