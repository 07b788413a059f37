"""Takes a name and an alias or a version; gives the registered model: its versions, and its package as a folder."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder, replacing_folder
from speech_emotion.tracking.mlflow_run import connect, first_line, fluent, hush, patience, place

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER: Final = "challenger"
"""The alias of the version that the workspace holds."""

CHAMPION: Final = "champion"
"""The alias of the version that was promoted, and that others use."""

PACKAGE_DIGEST: Final = "package_digest"
"""The tag of a version that names its package."""

PACKAGE_ARTIFACT: Final = "package"
"""What the registered model calls the package among its artifacts."""

_UNKNOWN: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""What MLflow says of what it has not; INVALID_PARAMETER_VALUE of an alias, or of an address that is none."""

_URI: Final = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))")


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes
    ----------
    name : str
    number : int
    package_digest : str
        Empty where the version was not made by `publish`.
    run_id : str or None
        The training's run.
    aliases : tuple of str
    tags : mapping of str to str
    """

    name: str
    number: int
    package_digest: str
    run_id: str | None
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The version's URI, which always means the same version."""
        return f"models:/{self.name}/{self.number}"


def uri(name: str, alias: str = CHALLENGER) -> str:
    """Return the URI of the version that an alias is on."""
    return f"models:/{name}@{alias}"


def versions(client: "MlflowClient", name: str) -> list[Version]:
    """Return the versions of a registered model, newest first; none where there is no such model."""
    models = client.search_registered_models(f"name = '{name}'")
    # a search of versions finds them without their aliases, which are the model's
    aliases: Mapping[str, str] = models[0].aliases if models else {}
    found = [_version(one, aliases) for one in client.search_model_versions(f"name = '{name}'")]
    return sorted(found, key=lambda version: version.number, reverse=True)


def with_alias(client: "MlflowClient", name: str, alias: str = CHALLENGER) -> Version | None:
    """Return the version that an alias is on; None: no such model, or no version has it."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(name, alias)
        return _version(found, dict.fromkeys(found.aliases, found.version))
    except MlflowException as error:
        if error.error_code in _UNKNOWN:
            return None
        raise


def parse(model: str) -> re.Match[str]:
    """Return the groups `name` and `alias` or `number` of a version's URI.

    Raises
    ------
    UserError
        It is none.
    """
    match = _URI.fullmatch(model)
    if match is None:
        raise UserError(
            f"{model}: no URI of a registered model. Write models:/<name>@<alias> or models:/<name>/<number>."
        )
    return match


def resolve(model: str) -> Path:
    """Return the folder of a registered version's package; see `fetch`."""
    return fetch(model)[1]


def fetch(model: str) -> tuple[Version, Path]:
    """Fetch the package of a registered version, once.

    Parameters
    ----------
    model : str
        `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Returns
    -------
    Version
    Path
        The package's folder, in the user's cache, where it stays: its name is its digest.

    Raises
    ------
    UserError
        Not such a URI, no such version, MLflow does not answer, or what it holds is not what was registered.
    """
    match = parse(model)
    where = place()
    if where.is_missing and not os.environ.get("MLFLOW_REGISTRY_URI"):
        raise _no_model(match["name"], "none: `dvc repro` registers one, or `speech-emotion publish`")
    hush()
    from mlflow.exceptions import MlflowException

    try:
        with patience(30, retries=2):
            client = connect(where)
            version = _find(client, match["name"], match["alias"], match["number"])
            folder = cache() / version.package_digest
            if not folder.is_dir():
                with fluent(where):
                    _fetch(client, version, folder)
            return version, folder
    except MlflowException as error:
        raise UserError(f"{model}: MLflow at {where.uri} does not give it ({first_line(error)}).") from None


def package_uri(client: "MlflowClient", version: Version) -> str:
    """Return where MLflow keeps a version's package."""
    location = client.get_model_version_download_uri(version.name, str(version.number))
    return f"{location}/artifacts/{PACKAGE_ARTIFACT}"


def is_there(client: "MlflowClient", version: Version) -> bool:
    """Tell whether a version's files are still where they were put: a folder of runs may have been moved or deleted.

    Raises
    ------
    mlflow.exceptions.MlflowException
        Whoever keeps them does not answer, which says nothing of them.
    """
    import requests
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return bool(list_artifacts(artifact_uri=package_uri(client, version)))
    except MlflowException as error:
        if error.error_code in _UNKNOWN:
            return False
        raise
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code == requests.codes.not_found:
            return False
        raise
    except OSError:
        return False


def cache() -> Path:
    """Return the folder that fetched packages are kept in; all of it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speech-emotion" / "packages"


def _no_model(name: str, registered: str) -> UserError:
    return UserError(f"models:/{name}: there is no such registered model at {place().uri}. Registered: {registered}.")


def _find(client: "MlflowClient", name: str, alias: str | None, number: str | None) -> Version:
    existing = versions(client, name)
    if not existing:
        names = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise _no_model(name, names)
    if alias is not None:
        found = with_alias(client, name, alias)
        known = sorted({alias for version in existing for alias in version.aliases})
    else:
        found = next((version for version in existing if str(version.number) == number), None)
        known = sorted(str(version.number) for version in existing)
    if found is None:
        kind, wanted = ("alias", alias) if alias is not None else ("version", number)
        raise UserError(f"models:/{name}: it has no {kind} {wanted}. It has: {', '.join(known) or 'none'}.")
    if not found.package_digest:
        raise UserError(f"{found.uri}: it was not made by `speech-emotion publish`, and holds no package.")
    return found


def _fetch(client: "MlflowClient", version: Version, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts

    source = package_uri(client, version)
    with tempfile.TemporaryDirectory() as temporary:
        got = Path(download_artifacts(artifact_uri=source, dst_path=temporary))
        if digest_folder(got) != version.package_digest:
            raise UserError(
                f"{version.uri}: its package is not what was registered: {source} was changed. "
                "`speech-emotion publish` registers the workspace's package anew once that version is deleted."
            )
        with replacing_folder(folder) as aside:
            for file in got.iterdir():
                file.rename(aside / file.name)


def _version(found: "ModelVersion", aliases: Mapping[str, str]) -> Version:
    return Version(
        name=found.name,
        number=int(found.version),
        package_digest=found.tags.get(PACKAGE_DIGEST, ""),
        run_id=found.run_id or None,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(found.version))),
        tags=dict(found.tags),
    )
