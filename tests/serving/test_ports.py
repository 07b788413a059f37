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


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"], ids=["taken", "of another machine"])
def test_unusable_address(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(UserError, match=f"Cannot listen on {host}:{port}. Choose another --port"):
            ports.bound(config(host, port))
