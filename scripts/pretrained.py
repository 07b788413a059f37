"""Copy a package into the library, as the built-in model: that of `make voices`, or the one that is named."""

import shutil
import sys
from pathlib import Path

from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing_folder
from speech_emotion.models.package import Package
from speech_emotion.registry.model_resolution import PRETRAINED

ROOT = Path(__file__).resolve().parent.parent


def main(folder: Path = ROOT / ".voices" / "models" / "voices" / "package") -> None:
    """Check the package, copy it, and print its digest."""
    package = Package.load(folder)
    with replacing_folder(PRETRAINED) as target:
        shutil.copytree(package.folder, target, dirs_exist_ok=True)
    print(f"{PRETRAINED.relative_to(ROOT)}: package {Package.load(PRETRAINED).digest[:12]}")


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:2]))
    except UserError as error:
        sys.exit(f"error: {error}")
