"""Takes a section that has built-in settings; gives what params.yaml says of it, where there is one that has it."""

from pathlib import Path

from speech_emotion.settings.base import PARAMS, SectionT, read_params, read_section


def section_or(default: SectionT, name: str, path: Path = PARAMS) -> SectionT:
    """Read a section of params.yaml for a command that works outside of a clone too.

    Without the file, the built-in settings hold; so too where it has no such section: every project of DVC has a
    params.yaml, and the working folder may be another one's.

    Parameters
    ----------
    default : Section
        The built-in settings.
    name : str
        The section's key.
    path : Path
        The file.

    Raises
    ------
    UserError
        The section is there and holds a mistake.
    """
    if not path.is_file() or name not in read_params(path):
        return default
    return read_section(name, type(default), path)
