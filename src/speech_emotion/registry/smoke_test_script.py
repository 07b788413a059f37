"""Takes the folder of a registered model; answers its own example and prints what was heard, and how fast, as JSON.

Run as a script in an isolated interpreter: what is imported is the code that lies beside the model.
"""

import base64
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Final

REPEATS: Final = 21


def main(model: Path) -> None:
    """Answer once to warm up, then `REPEATS` times against the clock."""
    sys.path.insert(0, str(model / "code"))
    import speech_emotion

    if not Path(speech_emotion.__file__).is_relative_to(model):
        raise ImportError(f"the code beside the model is not what was imported, but {speech_emotion.__file__}")
    example = json.loads((model / "serving_input_example.json").read_text(encoding="utf-8"))
    audio = base64.b64decode(example["dataframe_split"]["data"][0][0])
    recognizer = speech_emotion.Recognizer.load(model / "artifacts" / "package")
    label = recognizer.predict(audio).label
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        recognizer.predict(audio)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"label": label, "milliseconds": 1000 * statistics.median(seconds)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
