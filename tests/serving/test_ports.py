import socket

import pytest
import uvicorn
from starlette.applications import Starlette

from speech_emotion.core.errors import UserError
from speech_emotion.serving import ports


def config(host: str, port: int = 0) -> uvicorn.Config:
    return uvicorn.Config(Starlette(), host=host, port=port, log_config=None)


def test_url() -> None:
    with ports.bound(config("127.0.0.1")) as listener:
        assert ports.url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_ipv6_url() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        assert ports.url(listener) == "http://[::]:0"


def test_message_names_port_or_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"Cannot listen on 127.0.0.1:{port}. Choose another --port"):
            ports.bound(config("127.0.0.1", port))

    # an address that is set aside for documents, and so nobody's
    with pytest.raises(UserError, match=r"Cannot listen on 192.0.2.1:7860. Choose an address of this machine"):
        ports.bound(config("192.0.2.1", 7860))
