"""Bind the socket that uvicorn listens on."""

import socket

import uvicorn

from speech_emotion.core.errors import UserError


def bound(config: uvicorn.Config) -> socket.socket:
    """Return the bound socket; raises UserError if the address cannot be used."""
    try:
        return config.bind_socket()
    except (SystemExit, OSError):  # uvicorn ends the process
        raise refusal(config.host, config.port) from None


def refusal(host: str, port: int) -> UserError:
    """Return the error for an address that cannot be listened on."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
        cure = "Choose another --port"
    except OSError:
        cure = "Choose an address of this machine with --host"
    return UserError(f"Cannot listen on {host}:{port}. {cure}.")


def url(listener: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
