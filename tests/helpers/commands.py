"""What the commands' tests call `speech-emotion` by."""

import subprocess
from typing import Protocol


class Command(Protocol):
    """Runs the command line in a process of its own, in an empty folder unless `cwd` names another."""

    def __call__(self, *arguments: object, **environment: object) -> subprocess.CompletedProcess[str]: ...
