"""Open the socket that uvicorn listens on."""

import socket

import uvicorn

from speech_emotion.core.errors import UserError


def bound(config: uvicorn.Config) -> socket.socket:
    """Return a listening socket; raises UserError if the address cannot be used."""
    try:
        listener = config.bind_socket()
        listener.listen(config.backlog)
    except (SystemExit, OSError):  # uvicorn ends the process
        raise UserError(
            f"Cannot listen on {config.host}:{config.port}. Choose another --port, "
            "or an address of this machine with --host."
        ) from None
    return listener


def url(listener: socket.socket) -> str:
    """Return the URL of a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
