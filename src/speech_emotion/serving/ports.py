"""Takes where uvicorn is to listen; gives the socket that it listens at, and its address as a URL."""

import socket

import uvicorn

from speech_emotion.core.errors import UserError


def bound(config: uvicorn.Config) -> socket.socket:
    """Return the bound socket of a server that is about to start.

    Raises
    ------
    UserError
        The port cannot be had, or the host is none of this machine's; says which of the two to change.
    """
    try:
        return config.bind_socket()
    except (SystemExit, OSError):  # uvicorn ends the process
        raise refusal(config.host, config.port) from None


def refusal(host: str, port: int) -> UserError:
    """Return what to say where a port of a host cannot be listened at."""
    option = "--port names another" if _is_here(host) else "--host names an address of this machine"
    return UserError(f"{host}:{port}: cannot be listened at; {option}.")


def url(listener: socket.socket) -> str:
    """Return the address of a bound socket, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def _is_here(host: str) -> bool:
    """Tell whether some port of this host can be listened at, so that only the one that was asked for cannot."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
