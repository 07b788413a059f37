"""List the versions of a registered model, and fetch their packages."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder, replacing_folder
from speech_emotion.tracking.connection import locate, session

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER: Final = "challenger"
"""The alias of the version that the workspace holds."""

CHAMPION: Final = "champion"
"""The alias of the version that was promoted, and that others use."""

PACKAGE_DIGEST: Final = "package_digest"
"""The tag of a version that identifies its package."""

CODE_DIGEST: Final = "code_digest"
"""The tag of a version that identifies the code registered with it."""

PACKAGE_ARTIFACT: Final = "package"
"""The artifact of the registered model that holds the package."""

_NOT_FOUND: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""MLflow's errors for something that does not exist; the second one for an alias or an invalid address."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")

_URI: Final = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))")


@dataclass(frozen=True)
class Version:
    """A version of a registered model. `package_digest` is empty if `publish` did not register it."""

    name: str
    number: int
    package_digest: str
    run_id: str | None
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The URI of this version, whatever its aliases."""
        return f"models:/{self.name}/{self.number}"


def uri(name: str, alias: str = CHALLENGER) -> str:
    """Return the URI of the version with an alias."""
    return f"models:/{name}@{alias}"


def parse(model: str) -> re.Match[str]:
    """Return the groups `name` and `alias` or `number` of a model URI."""
    match = _URI.fullmatch(model)
    if match is None:
        raise UserError(
            f"{model}: not the URI of a registered model. Write models:/<name>@<alias> or models:/<name>/<number>."
        )
    return match


def versions(client: "MlflowClient", name: str) -> list[Version]:
    """Return the versions of a registered model, newest first; empty if there is no such model."""
    models = client.search_registered_models(f"name = '{name}'")
    # a search returns versions without their aliases, which belong to the model
    aliases: Mapping[str, str] = models[0].aliases if models else {}
    found = [_version(one, aliases) for one in client.search_model_versions(f"name = '{name}'")]
    return sorted(found, key=lambda version: version.number, reverse=True)


def find(client: "MlflowClient", name: str, wanted: str) -> Version:
    """Return the version with a number or an alias, if `publish` registered it."""
    existing = versions(client, name)
    if not existing:
        raise no_model(name, *(model.name for model in client.search_registered_models()))
    found = next((one for one in existing if wanted in (str(one.number), *one.aliases)), None)
    if found is None:
        kind = "version" if wanted.isdecimal() else "alias"
        numbers = ", ".join(str(one.number) for one in reversed(existing))
        aliases = ", ".join(sorted(alias for one in existing for alias in one.aliases)) or "none"
        raise UserError(f"{name}: there is no {kind} '{wanted}'. Versions: {numbers}. Aliases: {aliases}.")
    if not found.package_digest:
        raise UserError(f"{found.uri}: it was not registered by `speech-emotion publish`, and has no package.")
    return found


def no_model(name: str, *registered: str) -> UserError:
    """Return the error for a registered model that does not exist."""
    return UserError(
        f"{name}: no such registered model at {locate().name}. Registered: {', '.join(registered) or 'none'}. Run "
        "`dvc repro` or `speech-emotion publish` to register one."
    )


def fetch(model: str) -> tuple[Version, Path]:
    """Download the package of `models:/<name>@<alias>` or `models:/<name>/<number>`, unless the cache has it.

    Return the version and the folder in the user's cache, which is named by the digest of the package.
    """
    match = parse(model)
    if locate().is_missing:
        raise no_model(match["name"])
    with session("Try again when it is available.") as client:
        version = find(client, match["name"], match["alias"] or match["number"])
        folder = cache() / version.package_digest
        if not folder.is_dir() or digest_folder(folder) != version.package_digest:
            _download(client, version, folder)
        return version, folder


def cache() -> Path:
    """Return the folder of downloaded packages, which may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speech-emotion" / "packages"


def package_uri(client: "MlflowClient", version: Version) -> str:
    """Return the address of a version's package."""
    return f"{client.get_model_version_download_uri(version.name, str(version.number))}/artifacts/{PACKAGE_ARTIFACT}"


def has_files(client: "MlflowClient", version: Version) -> bool:
    """Return whether the files of a version still exist; raise if the server that keeps them does not respond."""
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return bool(list_artifacts(artifact_uri=package_uri(client, version)))
    except MlflowException as error:
        if error.error_code in _NOT_FOUND:
            return False
        raise
    except OSError as error:
        # an HTTP error has a response unless the server could not be reached
        response = getattr(error, "response", None)
        if hasattr(error, "response") and getattr(response, "status_code", None) != 404:
            raise
        return False


def _download(client: "MlflowClient", version: Version, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts

    source = package_uri(client, version)
    with tempfile.TemporaryDirectory() as temporary:
        downloaded = Path(download_artifacts(artifact_uri=source, dst_path=temporary))
        if digest_folder(downloaded) != version.package_digest:
            raise UserError(
                f"{version.uri}: its package is not the one that was registered; {source} was changed. Delete the "
                "version; `speech-emotion publish` then registers the workspace's package again."
            )
        with replacing_folder(folder) as target:
            for file in downloaded.iterdir():
                file.rename(target / file.name)


def _version(found: "ModelVersion", aliases: Mapping[str, str]) -> Version:
    digest = found.tags.get(PACKAGE_DIGEST, "")
    return Version(
        name=found.name,
        number=int(found.version),
        # it becomes the name of a folder, and anyone who may write to the registry can edit it
        package_digest=digest if _SHA256.fullmatch(digest) else "",
        run_id=found.run_id or None,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(found.version))),
        tags=dict(found.tags),
    )
