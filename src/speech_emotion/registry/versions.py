"""Find the versions of a registered model, and check that their files exist."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speech_emotion.core.errors import UserError
from speech_emotion.tracking.connection import locate, session

if TYPE_CHECKING:
    from mlflow import MlflowClient

# aliases of the version that the workspace holds, and of the one that was promoted
CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
# tags of a version
PACKAGE_DIGEST: Final = "package_digest"
CODE_DIGEST: Final = "code_digest"
# artifacts of a version: its package, and its predictions, a CSV file per protocol
PACKAGE_ARTIFACT: Final = "package"
PREDICTIONS: Final = "predictions"

_NOT_FOUND: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""MLflow's errors for something that does not exist; the second one for an alias or an invalid address."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Version:
    """A version of a registered model. `package_digest` is empty if `publish` did not register it."""

    name: str
    number: int
    package_digest: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The URI of this version, whatever its aliases."""
        return f"models:/{self.name}/{self.number}"


@contextmanager
def registered(name: str, advice: str) -> Iterator["MlflowClient"]:
    """Connect to MLflow as `session` does; raise a UserError if it has no registered model of this name."""
    where, names = locate(), list[str]()
    if not where.is_missing:
        with session(advice) as client:
            if client.search_registered_models(f"name = '{name}'"):
                yield client
                return
            names = [model.name for model in client.search_registered_models()]
    raise UserError(
        f"{name}: no such registered model at {where.name}. Registered: {', '.join(names) or 'none'}. Run "
        "`dvc repro` to register one, or name another corpus: in params.yaml, or with --corpus where a command has it."
    )


def versions(client: "MlflowClient", name: str) -> list[Version]:
    """Return the versions of a registered model, newest first; empty if there is no such model."""
    models = client.search_registered_models(f"name = '{name}'")
    # a search returns versions without their aliases, which belong to the model
    aliases: Mapping[str, str] = models[0].aliases if models else {}
    found = [
        Version(
            name=name,
            number=int(one.version),
            # it becomes the name of a folder, and anyone who may write to the registry can edit it
            package_digest=digest if _SHA256.fullmatch(digest := one.tags.get(PACKAGE_DIGEST, "")) else "",
            aliases=tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(one.version))),
            tags=dict(one.tags),
        )
        for one in client.search_model_versions(f"name = '{name}'")
    ]
    return sorted(found, key=lambda version: version.number, reverse=True)


def find(client: "MlflowClient", name: str, wanted: str) -> Version:
    """Return the version with a number or an alias, if `publish` registered it."""
    existing = versions(client, name)
    found = next((one for one in existing if wanted in (str(one.number), *one.aliases)), None)
    if found is None:
        kind = "version" if wanted.isdecimal() else "alias"
        numbers = ", ".join(str(one.number) for one in reversed(existing)) or "none"
        aliases = ", ".join(sorted(alias for one in existing for alias in one.aliases)) or "none"
        raise UserError(f"{name}: there is no {kind} '{wanted}'. Versions: {numbers}. Aliases: {aliases}.")
    if not found.package_digest:
        raise UserError(f"{found.uri}: it was not registered by `speech-emotion publish`, and has no package.")
    return found


def address(client: "MlflowClient", version: Version, artifact: str) -> str:
    """Return the address of an artifact of a version."""
    return f"{client.get_model_version_download_uri(version.name, str(version.number))}/artifacts/{artifact}"


def has_files(client: "MlflowClient", version: Version) -> bool:
    """Return whether the files of a version still exist; raise if the server that keeps them does not respond."""
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return bool(list_artifacts(artifact_uri=address(client, version, PACKAGE_ARTIFACT)))
    except MlflowException as error:
        if error.error_code in _NOT_FOUND:
            return False
        raise
    except OSError as error:
        # an HTTP error has a response unless the server could not be reached
        if hasattr(error, "response") and getattr(error.response, "status_code", None) != 404:
            raise
        return False
