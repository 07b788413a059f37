"""Takes a section that has built-in settings; gives what params.yaml says of it, where there is one that has it."""

from pathlib import Path

from speech_emotion.settings.base import PARAMS, SectionT, parse_section, read_params


def section_or(default: SectionT, name: str, path: Path = PARAMS) -> SectionT:
    """Read a section of params.yaml for a command that works outside of a clone too.

    Without the file, the built-in settings hold; so too where it has no such section: every project of DVC has a
    params.yaml, and the working folder may be another one's. So other sections are nothing to complain of either.

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
    values = read_params(path) if path.is_file() else {}
    return parse_section(name, type(default), values[name], path) if name in values else default
