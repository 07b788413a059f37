"""Takes a trained network's files and what is to be known of it; gives the folder that is the model, and reads it."""

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
from speech_emotion.features.mfcc import coefficient_count, spec_digest

FORMAT: Final = 2
"""Counts changes of the folder's format that an older reader would misunderstand."""

DESCRIPTION: Final = "package.json"
GRAPH: Final = "graph.onnx"
ARCHITECTURE: Final = "architecture.json"
WEIGHTS: Final = "model.weights.h5"
NORMALIZATION: Final = "normalization.json"
REQUIREMENTS: Final = "requirements.txt"
LICENSE: Final = "LICENSE.md"
EVIDENCE: Final = "evidence"

REQUIRED_DISTRIBUTIONS: Final = (
    "av",
    "numpy",
    "onnxruntime",
    "pydantic",
    "ruamel.yaml",
    "ruamel.yaml.clib",
    "soundfile",
    "soxr",
)
"""What prediction imports."""

DEFAULT_LIMITS: Final = PackageSettings(min_seconds=0.2, max_seconds=60.0)
"""Of a package that has not been through the package stage, which sets those of params.yaml."""

_CHECKED: Final = (ARCHITECTURE, GRAPH, LICENSE, WEIGHTS, NORMALIZATION, REQUIREMENTS)
_REPAIR: Final = "Fetch it again (`dvc checkout`, `dvc pull`), or make it with `dvc repro`."


class Rejection(Section):
    """From which confidence on an answer is given as sure; see `calibration`."""

    threshold: Annotated[float, Field(ge=0, le=1)]
    """An answer with less confidence is "not sure"."""
    risk: Annotated[float, Field(ge=0, le=1)]
    """Share of wrong answers among the sure ones, where this was fitted."""
    coverage: Annotated[float, Field(ge=0, le=1)]
    """Share of sure answers there."""


class Description(Section):
    """What package.json says."""

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
    """Names the feature specification, with the version of the code that computes it."""
    temperature: Annotated[float, Field(gt=0)]
    """Logits are divided by it before they become probabilities."""
    rejection: Rejection | None
    """None: every answer is given as sure."""
    limits: PackageSettings
    lineage: dict[str, str]
    """Digests of what the network was made from."""
    files: dict[str, str]
    """SHA-256 of every other file but the evidence."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("each label once")
        if set(self.files) != set(_CHECKED):
            raise ValueError(f"exactly the files {', '.join(_CHECKED)}")
        return self


@dataclass(frozen=True)
class Package:
    """A model package: a folder that was found whole, and what it says of itself.

    Attributes
    ----------
    folder : Path
    description : Description
        The content of package.json.
    """

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
                raise UserError(f"{path}: is missing, the package is not whole. {_REPAIR}")
            if digest_file(path) != digest:
                raise UserError(f"{path}: is not the file that {DESCRIPTION} describes, by its SHA-256. {_REPAIR}")
        return package

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the network's outputs."""
        return self.description.labels

    @property
    def graph(self) -> Path:
        """The network for ONNX Runtime."""
        return self.folder / GRAPH

    @property
    def requirements(self) -> tuple[str, ...]:
        """What prediction needs, pinned, as pip writes it."""
        return tuple((self.folder / REQUIREMENTS).read_text(encoding="utf-8").splitlines())

    @cached_property
    def digest(self) -> str:
        """The SHA-256 over the whole folder, evidence included: the package's name in the registry."""
        return digest_folder(self.folder)

    def evidence(self) -> dict[str, dict[str, Any]]:
        """Return the metrics of each protocol that the package carries, by the protocol's name.

        Raises
        ------
        UserError
            A file of evidence is damaged.
        """
        found = {}
        for path in sorted((self.folder / EVIDENCE).glob("*.json")):
            try:
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
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
    limits: PackageSettings = DEFAULT_LIMITS,
) -> Package:
    """Make a package of a folder that holds graph.onnx, architecture.json and model.weights.h5 already.

    Parameters
    ----------
    folder : Path
    corpus, protocol, fold : str
        What the network was trained on.
    kind : {"tess", "demo", "folder"}
        The kind of corpus, which decides the licence.
    labels : sequence of str
        In the order of the network's outputs.
    features : FeaturizeSettings
        The feature specification.
    statistics : tuple of np.ndarray [shape=(coefficients,)] or None
        Mean and deviation of each coefficient over the training part; they lie in the graph too. None: not normalised.
    lineage : mapping of str to str
        Digests of what the network was made from.
    temperature : float
        Logits are divided by it before they become probabilities.
    rejection : Rejection or None
        From which confidence on an answer is sure.
    limits : PackageSettings
        Which audio is accepted.

    Notes
    -----
    Equal values, files and installed versions give equal bytes: nothing in a package is dated.
    """
    from importlib import metadata

    mean, deviation = (None, None) if statistics is None else (_as_list(part, features) for part in statistics)
    write_json(folder / NORMALIZATION, {"mean": mean, "deviation": deviation})
    write_text(folder / REQUIREMENTS, "".join(f"{line}\n" for line in pinned_requirements()))
    write_text(folder / LICENSE, _LICENSES[kind])
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
        limits=limits,
        lineage=dict(lineage),
        files={name: digest_file(folder / name) for name in _CHECKED},
    )
    write_json(folder / DESCRIPTION, description.model_dump(mode="json"))
    return Package(folder, description)


def assemble(
    full: Path,
    evidence: Mapping[str, Mapping[str, Any]],
    target: Path,
    *,
    limits: PackageSettings | None = None,
    beside: Mapping[str, str] | None = None,
) -> Package:
    """Make the package that leaves the pipeline: the full protocol's network with the metrics of every protocol.

    Parameters
    ----------
    full : Path
        The package to copy; other files beside it, such as a training's history, are left out.
    evidence : mapping of str to mapping
        Metrics by protocol; each becomes `evidence/<protocol>.json`.
    target : Path
        The folder to make, whole or not at all.
    limits : PackageSettings, optional
        Which audio is accepted; None: as `full` has it.
    beside : mapping of str to str, optional
        Text files that go with the package, by name: its model card, for one.

    Raises
    ------
    UserError
        `full` is not a whole package.
    """
    source = Package.load(full)
    description = source.description.model_copy(update={"limits": limits or source.description.limits})
    with replacing_folder(target) as aside:
        for name in _CHECKED:
            shutil.copyfile(full / name, aside / name)
        write_json(aside / DESCRIPTION, description.model_dump(mode="json"))
        for protocol, metrics in evidence.items():
            write_json(aside / EVIDENCE / f"{protocol}.json", metrics)
        for name, text in (beside or {}).items():
            write_text(aside / name, text)
    return Package(target, description)


def pinned_requirements() -> tuple[str, ...]:
    """Return what prediction needs in the versions that are installed here, as pip reads it."""
    from importlib import metadata  # slow, and of no use to prediction

    # a local version ("2.1+cpu") names a build that no index has
    return tuple(f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIRED_DISTRIBUTIONS)


def _read_description(folder: Path) -> Description:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"{folder}: there is no model package here (no {DESCRIPTION}). "
            "`dvc repro` makes one, models/<corpus>/package."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: cannot be read as JSON, the package is damaged. {_REPAIR}") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise UserError(
            f"{path}: has format {version!r}, and this version of speech-emotion reads format {FORMAT}. "
            "Install the version that wrote the package, or make it anew with `dvc repro`."
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
            f"{path}: its network learned from features of another version of the feature code than this one "
            f"(speech-emotion {description.software}). Install that version, or make the package anew with `dvc repro`."
        )
    return description


def _as_list(values: np.ndarray, features: FeaturizeSettings) -> list[float]:
    if values.shape != (coefficient_count(features),):
        raise ValueError(f"{coefficient_count(features)} coefficients, and statistics of shape {values.shape}")
    return [float(value) for value in values]


_SOFTWARE_LICENSE: Final = "The software that reads this package, speech-emotion, is under the MIT licence.\n"

_LICENSES: Final[Mapping[CorpusName, str]] = {
    "tess": f"""# Licence of this model

The weights were learned from the Toronto emotional speech set (TESS) and are offered under
[CC BY-NC 4.0](https://creativecommons.org/licenses/by-nc/4.0/): not for commercial use, and with the credit below.

TESS: M. Kathleen Pichora-Fuller and Kate Dupuis, University of Toronto, 2020, https://doi.org/10.5683/SP2/E8H2MF, under
[CC BY-NC-ND 4.0](https://creativecommons.org/licenses/by-nc-nd/4.0/). This package holds none of its recordings, nor
anything from which one could be restored.

{_SOFTWARE_LICENSE}""",
    "demo": f"""# Licence of this model

The weights were learned from speech that eSpeak NG made (a program under GPLv3 or later; what it says is not). They are
offered under the MIT licence. They are made to try the software with and know nothing of human speech.

{_SOFTWARE_LICENSE}""",
    "folder": f"""# Licence of this model

The weights were learned from recordings that are no part of the software. Whoever trained them decides on their
licence, within what the licences of those recordings and the people who are heard in them allow.

{_SOFTWARE_LICENSE}""",
}
