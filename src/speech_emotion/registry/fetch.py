"""Takes the URI of a registered version; fetches its package and prints where it lies, as JSON."""

import json
import sys

from speech_emotion.core.errors import UserError
from speech_emotion.registry.versions import fetch


def main() -> None:
    """Fetch what the command line names."""
    try:
        version, folder = fetch(sys.argv[1])
    except UserError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {sys.argv[1]}: a model of the registry needs the package '{error.name}': pip install mlflow")
    told = {"folder": str(folder), "name": version.name, "version": str(version.number), "digest": folder.name}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
