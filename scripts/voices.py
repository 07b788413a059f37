"""Train on TESS, RAVDESS and CREMA-D in the clone .voices/, and copy the results to reports/voices.

Copies of the corpora are found in data/incoming/<corpus> or by TESS_DIR, RAVDESS_DIR and CREMA_D_DIR; a corpus without
a copy is downloaded. With `--altered-copies`, recordings are accepted by their names (corpus.checksums: ignore).
"""

import os
import shutil
import sys
from typing import Any

from clone import ROOT, SCRATCH, run, updated
from ruamel.yaml import YAML

from speech_emotion.config.presets import FOLDER
from speech_emotion.core.errors import UserError
from speech_emotion.core.io import replacing_folder

NAME = "voices"


def main(arguments: list[str]) -> None:
    """Run the pipeline in the clone, and copy reports, params.yaml and dvc.lock of the run."""
    preset: dict[str, Any] = YAML(typ="safe").load(ROOT / FOLDER / f"{NAME}.yaml")
    variables: dict[str, str | None] = dict(filter(None, map(copy_of, preset["corpus"]["corpora"])))
    with updated(NAME) as voices:
        run(voices, "speech_emotion", "preset", NAME, variables=variables)
        if "--altered-copies" in arguments:
            altered = SCRATCH / "altered_copies.yaml"
            altered.write_text("corpus: {checksums: ignore}\n")
            run(voices, "speech_emotion", "preset", str(altered), variables=variables)
        run(voices, "dvc", "repro", variables=variables)
        with replacing_folder(ROOT / "reports" / NAME) as target:
            # the predictions of every utterance are too large for git, and baselines belong to DVC
            unwanted = shutil.ignore_patterns("predictions.csv", "baselines", ".gitignore")
            shutil.copytree(voices / "reports" / NAME, target, dirs_exist_ok=True, ignore=unwanted)
            if (searched := ROOT / "reports" / NAME / "tuning").exists():
                shutil.copytree(searched, target / "tuning", dirs_exist_ok=True)
            for name in ("params.yaml", "dvc.lock"):
                shutil.copy2(voices / name, target / name)
    print(f"reports/{NAME}: written. `make pretrained` puts the package into the library.")


def copy_of(corpus: str) -> tuple[str, str] | None:
    """Return the environment variable that names the copy of a corpus in data/incoming, if it is there."""
    variable, folder = f"{corpus.upper()}_DIR", ROOT / "data" / "incoming" / corpus
    return (variable, str(folder)) if folder.exists() and variable not in os.environ else None


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
