"""Refuses every way out of this machine to the Python that finds this file on PYTHONPATH, and writes each try down."""

import ipaddress
import os
import sys
from typing import Any

LOG = os.environ.get("NETWORK_GUARD_LOG")
NAMES = {"localhost", "", "0.0.0.0", "::", os.uname().nodename}


def _local(host: Any) -> bool:
    if host is None:
        return True
    if isinstance(host, bytes):
        host = host.decode()
    if str(host).lower() in NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # anything else is a socket of this machine
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = arguments[0]
    else:
        return
    if not _local(host):
        with open(str(LOG), "a") as file:
            file.write(f"{event} {host} by {' '.join(sys.argv[:4])}\n")
        raise OSError(f"no way out: {event} {host}")


if LOG:
    sys.addaudithook(_watch)
