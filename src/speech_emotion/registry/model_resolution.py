"""Resolve the model that the user names: a package, a registered version, the champion, or the built-in one."""

import os
import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speech_emotion.config.base import PARAMS, read_params, read_section
from speech_emotion.config.data import CorpusSettings
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import digest_folder, replacing_folder
from speech_emotion.registry.versions import CHAMPION, PACKAGE_ARTIFACT, Version, address, find, registered
from speech_emotion.tracking.connection import home, model_name

if TYPE_CHECKING:
    from speech_emotion.inference.recognizer import Recognizer

PRETRAINED: Final = Path(__file__).parent.parent / "pretrained"
"""The built-in package."""

FETCH_SECONDS: Final = 300.0
"""The longest time that a server waits for a download."""

_URI: Final = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))")


@dataclass(frozen=True)
class Model:
    """The folder of a package, and its name, version and package digest if it is registered."""

    folder: Path = PRETRAINED
    name: str = ""
    version: str = ""
    digest: str = ""

    @property
    def title(self) -> str:
        """The model in words."""
        if self.name:
            return f"{self.name}, version {self.version}"
        return "the built-in model" if self.folder == PRETRAINED else str(self.folder)

    @property
    def versions(self) -> dict[str, str]:
        """What `response.row` adds to a prediction."""
        digest = self.digest or self.recognizer.package.digest
        return {"model": self.name, "model_version": self.version, "package_digest": digest}

    @cached_property
    def recognizer(self) -> "Recognizer":
        """The model, loaded."""
        from speech_emotion.inference.recognizer import Recognizer

        return Recognizer.load(self.folder)


def load(source: str | Path | None = None, *, threads: int = 1) -> "Recognizer":
    """Load the package in a folder, or a version in the registry such as `models:/speech-emotion-tess@challenger`.

    Without a source it is the built-in package; `threads` are those of `Recognizer`.
    """
    from speech_emotion.inference.recognizer import Recognizer

    return Recognizer.load(resolve(source).folder, threads=threads)


def resolve(source: str | Path | None) -> Model:
    """Return the model that a folder, a registry URI or None names; a registered version is downloaded."""
    # a Path would collapse the slashes of a URI
    if isinstance(source, str) and source.startswith("models:"):
        return fetch(source)
    return Model() if source is None else Model(Path(source))


def choose(source: str | None) -> Model:
    """Resolve a model; without a source it is the workspace's champion, else the built-in one."""
    path = home() / PARAMS
    # other projects have a params.yaml too
    if source is None and path.is_file() and "corpus" in read_params(path):
        champion = f"models:/{model_name(read_section('corpus', CorpusSettings, path).name)}@{CHAMPION}"
        source = champion if glance(champion) else None
    return resolve(source)


def fetch(uri: str) -> Model:
    """Download the package of `models:/<name>@<alias>` or `models:/<name>/<number>`, unless the cache has it."""
    name, wanted = _parse(uri)
    with registered(name, "Try again when it is available.") as client:
        from filelock import FileLock
        from mlflow.artifacts import download_artifacts

        version = find(client, name, wanted)
        model = _model(version)
        if _is_cached(model):
            return model
        model.folder.parent.mkdir(parents=True, exist_ok=True)
        # processes that follow one champion download it at the same time
        with FileLock(f"{model.folder}.lock"), tempfile.TemporaryDirectory() as temporary:
            if _is_cached(model):
                return model
            source = address(client, version, PACKAGE_ARTIFACT)
            downloaded = Path(download_artifacts(artifact_uri=source, dst_path=temporary))
            if digest_folder(downloaded) != model.digest:
                raise UserError(
                    f"{version.uri}: its package is not the one that was registered; {source} was changed. Delete the "
                    "version; `speech-emotion publish` then registers the workspace's package again."
                )
            with replacing_folder(model.folder) as target:
                for file in downloaded.iterdir():
                    file.rename(target / file.name)
        return model


def glance(uri: str) -> Model | None:
    """Return the version that a URI names now, without downloading it; None if that cannot be found out."""
    name, wanted = _parse(uri)
    try:
        with registered(name, "") as client:
            return _model(find(client, name, wanted))
    except (UserError, ModuleNotFoundError):
        return None


def may_change(source: str) -> bool:
    """Return whether a source can name another model tomorrow, as an alias can."""
    return source.startswith("models:") and not _parse(source)[1].isdecimal()


async def resolve_apart(source: str | None) -> Model:
    """Resolve a model in a process of its own, which is killed if this is cancelled."""
    if source is None or not source.startswith("models:"):
        return resolve(source)
    import asyncio
    from multiprocessing import get_context

    from pebble import ProcessExpired, concurrent

    apart = concurrent.process(timeout=FETCH_SECONDS, context=get_context("spawn"))  # type: ignore[call-overload]
    try:
        model: Model = await asyncio.wrap_future(apart(fetch)(source))
    except TimeoutError:
        raise UserError(f"{source}: MLflow did not deliver it within {FETCH_SECONDS:g} s.") from None
    except ProcessExpired:
        raise UserError(f"{source}: cannot be downloaded; see the output above.") from None
    return model


def _parse(uri: str) -> tuple[str, str]:
    """Return the name of a registered model, and the alias or number."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise UserError(
            f"{uri}: not the URI of a registered model. Write models:/<name>@<alias> or models:/<name>/<number>."
        )
    return match["name"], match["alias"] or match["number"]


def _is_cached(model: Model) -> bool:
    return model.folder.is_dir() and digest_folder(model.folder) == model.digest


def _model(version: Version) -> Model:
    digest = version.package_digest
    # the cache may be deleted at any time
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speech-emotion" / "packages"
    return Model(cache / digest, version.name, str(version.number), digest)
