"""Write and read a model package: the folder that is deployed."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from speech_emotion.config.base import Section
from speech_emotion.config.data import CorpusName
from speech_emotion.config.features import FeaturizeSettings
from speech_emotion.config.serving import PackageSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_file, digest_folder, replacing_folder, write_json, write_text
from speech_emotion.features.mfcc import spec_digest

FORMAT: Final = 2
"""Version of the folder format."""

DESCRIPTION: Final = "package.json"
GRAPH: Final = "graph.onnx"
ARCHITECTURE: Final = "architecture.json"
WEIGHTS: Final = "model.weights.h5"
NORMALIZATION: Final = "normalization.json"
REQUIREMENTS: Final = "requirements.txt"
LICENSE: Final = "LICENSE.md"
EVALUATION: Final = "evaluation"

REQUIRED_DISTRIBUTIONS: Final = (
    "av",
    "numpy",
    "onnxruntime",
    "pydantic",
    "ruamel.yaml",
    "soundfile",
    "soxr",
)
"""Distributions that prediction imports."""

DEFAULT_LIMITS: Final = PackageSettings(min_seconds=0.2, max_seconds=60.0)
"""Limits of a package before the package stage sets those of params.yaml."""

_CHECKED: Final = (GRAPH, LICENSE, NORMALIZATION, REQUIREMENTS)
_KERAS: Final = (ARCHITECTURE, WEIGHTS)
"""Only of a training. The package that is deployed has its weights once, in the graph."""
_REPAIR: Final = "Fetch it again (`dvc checkout`, `dvc pull`), or build it with `dvc repro`."


class Rejection(Section):
    """The confidence from which a prediction is given; below it the answer is "not sure". See `calibration`."""

    threshold: Annotated[float, Field(ge=0, le=1)]
    """A prediction with a lower confidence is "not sure"."""
    risk: Annotated[float, Field(ge=0, le=1)]
    """Share of wrong predictions above the threshold, on the validation part."""
    coverage: Annotated[float, Field(ge=0, le=1)]
    """Share of predictions above the threshold, on the validation part."""


class Calibration(Section):
    """Temperature and rejection, fitted on the validation part."""

    temperature: Annotated[float, Field(gt=0)]
    rejection: Rejection


class Description(Section):
    """The content of package.json."""

    format: Literal[2]
    software: str
    """The version of speech-emotion that wrote it."""
    corpus: str
    protocol: str
    fold: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    """In the order of the network's outputs."""
    features: FeaturizeSettings
    spec_digest: str
    """Digest of the feature settings and the version of the feature code."""
    temperature: Annotated[float, Field(gt=0)]
    """Logits are divided by it before they become probabilities."""
    rejection: Rejection | None
    """None: the answer is never "not sure"."""
    enrolled: Calibration | None = None
    """Of predictions with a speaker profile; None: trained without references, accepts no profile."""
    limits: PackageSettings
    lineage: dict[str, str]
    """Digests of the data, features, settings and split of the training."""
    files: dict[str, str]
    """SHA-256 of every other file except the evaluation results."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("each label once")
        if set(self.files) - set(_KERAS) != set(_CHECKED):
            raise ValueError(f"exactly the files {', '.join(_CHECKED)}")
        return self


@dataclass(frozen=True)
class Package:
    """A model package whose files were checked."""

    folder: Path
    description: Description

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a package and check each of its files against its digest.

        Raises
        ------
        UserError
            There is no package, it is damaged, or it was written for another version of this software.
        """
        folder = Path(folder)
        package = cls(folder, _read_description(folder))
        for name, digest in package.description.files.items():
            path = folder / name
            if not path.is_file():
                raise UserError(f"{path}: is missing. {_REPAIR}")
            if digest_file(path) != digest:
                raise UserError(f"{path}: does not have the SHA-256 that {DESCRIPTION} names. {_REPAIR}")
        return package

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        return self.description.labels

    @property
    def graph(self) -> Path:
        """Path of the ONNX graph."""
        return self.folder / GRAPH

    @property
    def requirements(self) -> tuple[str, ...]:
        """Pinned requirements of prediction, one per line of requirements.txt."""
        return tuple((self.folder / REQUIREMENTS).read_text(encoding="utf-8").splitlines())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole folder, evaluation results included. It identifies the package in the registry."""
        return digest_folder(self.folder)

    @cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and standard deviation of each feature over the training part; None: no normalization."""
        content = json.loads((self.folder / NORMALIZATION).read_text(encoding="utf-8"))
        return None if content["mean"] is None else (np.array(content["mean"]), np.array(content["deviation"]))

    def evaluation(self) -> dict[str, dict[str, Any]]:
        """Return the metrics of each protocol, by its name.

        Raises
        ------
        UserError
            A file is damaged.
        """
        found = {}
        for path in sorted((self.folder / EVALUATION).glob("*.json")):
            try:
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                raise UserError(f"{path}: is not valid JSON, the package is damaged. {_REPAIR}") from None
        return found


def write_package_files(
    folder: Path,
    *,
    corpus: str,
    kind: CorpusName,
    protocol: str,
    fold: str,
    labels: Sequence[str],
    features: FeaturizeSettings,
    statistics: tuple[np.ndarray, np.ndarray] | None,
    lineage: Mapping[str, str],
    temperature: float = 1.0,
    rejection: Rejection | None = None,
    enrolled: Calibration | None = None,
    limits: PackageSettings = DEFAULT_LIMITS,
) -> Package:
    """Complete a folder that holds graph.onnx, architecture.json and model.weights.h5 to a package.

    Equal values, files and installed versions give equal bytes: a package contains no dates. The arguments are those of
    `Description`, except for:

    Parameters
    ----------
    kind : str
        Kind of corpus.
    statistics : tuple of np.ndarray [shape=(coefficients,)] or None
        Mean and standard deviation of each coefficient over the training part, which the graph contains too. None: no
        normalization.
    enrolled : Calibration or None
        Calibration with a speaker profile; None: the model was trained without references.
    """
    from importlib import metadata

    mean, deviation = (None, None) if statistics is None else (part.tolist() for part in statistics)
    write_json(folder / NORMALIZATION, {"mean": mean, "deviation": deviation})
    write_text(folder / REQUIREMENTS, "".join(f"{line}\n" for line in pinned_requirements()))
    # the package stage writes the whole text, so that training does not depend on the code of every corpus
    write_text(folder / LICENSE, f"# Licence of this model\n\nThat of the corpus it was trained on ({kind}).\n")
    description = Description(
        format=FORMAT,
        software=metadata.version("speech-emotion"),
        corpus=corpus,
        protocol=protocol,
        fold=fold,
        labels=tuple(labels),
        features=features,
        spec_digest=spec_digest(features),
        temperature=temperature,
        rejection=rejection,
        enrolled=enrolled,
        limits=limits,
        lineage=dict(lineage),
        files={name: digest_file(folder / name) for name in (*_CHECKED, *_KERAS)},
    )
    write_json(folder / DESCRIPTION, description.model_dump(mode="json"))
    return Package(folder, description)


def assemble(
    full: Path,
    evaluation: Mapping[str, Mapping[str, Any]],
    target: Path,
    *,
    licence: str,
    limits: PackageSettings,
    beside: Mapping[str, str],
) -> Package:
    """Build the package that is deployed: the network of `full` with the metrics of every protocol.

    `full` is the package to copy into `target`, without the files for Keras and others in its folder, such as the
    training history. `evaluation` has the metrics by protocol; each becomes `evaluation/<protocol>.json`. `licence` is
    that of the weights, as Markdown; `beside` has text files to add, by name, such as the model card.

    Raises
    ------
    UserError
        `full` is not a complete package.
    """
    source = Package.load(full)
    with replacing_folder(target) as temporary:
        for name in _CHECKED:
            shutil.copyfile(full / name, temporary / name)
        write_text(temporary / LICENSE, f"# Licence of this model\n\n{licence}\n\n{_SOFTWARE_LICENSE}")
        description = source.description.model_copy(
            update={
                "files": {name: digest_file(temporary / name) for name in _CHECKED},
                "limits": limits,
            }
        )
        write_json(temporary / DESCRIPTION, description.model_dump(mode="json"))
        for protocol, metrics in evaluation.items():
            write_json(temporary / EVALUATION / f"{protocol}.json", metrics)
        for name, text in beside.items():
            write_text(temporary / name, text)
    return Package(target, description)


def pinned_requirements() -> tuple[str, ...]:
    """Return the requirements of prediction, pinned to the installed versions."""
    from importlib import metadata  # slow to import, and not used by prediction

    # a local version ("2.1+cpu") names a build that PyPI does not have
    return tuple(f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIRED_DISTRIBUTIONS)


def _read_description(folder: Path) -> Description:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"{folder}: no model package found (no {DESCRIPTION}). `dvc repro` builds one in models/<corpus>/package."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path}: cannot be read as JSON, the package is damaged. {_REPAIR}") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise UserError(
            f"{path}: has format {version!r}, and this version of speech-emotion reads format {FORMAT}. "
            "Install the version that wrote the package, or build it again with `dvc repro`."
        )
    try:
        # JSON mode reads a list as a tuple, and stays strict about everything else
        description = Description.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or DESCRIPTION
        raise UserError(f"{path}: {where}: {first['msg']}. The package is damaged. {_REPAIR}") from None
    if description.spec_digest != spec_digest(description.features):
        raise UserError(
            f"{path}: its network was trained on features of another version of the feature code "
            f"(speech-emotion {description.software}). Install that version, or run `dvc repro`."
        )
    return description


_SOFTWARE_LICENSE: Final = "speech-emotion, the software that reads this package, is licensed under MIT.\n"
