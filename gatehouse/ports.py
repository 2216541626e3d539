"""Free ports on loopback, chosen before anything listens, because files that name them are written first."""

from __future__ import annotations

import random
import socket
from collections.abc import Container

from gatehouse.errors import Failure

_FIRST, _LAST = 20_000, 32_000
"""Below Linux's ephemeral range, so that no outgoing connection takes a port between choice and use."""
_TRIES = 200


def free_port(taken: Container[int] = (), host: str = "127.0.0.1") -> int:
    """A port of `host` that nobody listens on and that isn't among `taken`."""
    for _ in range(_TRIES):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 - not a secret
        if port not in taken and is_free(host, port):
            return port
    raise Failure(f"no free port on {host} between {_FIRST} and {_LAST}")


def is_free(host: str, port: int) -> bool:
    """Whether a listener can be opened there. Envoy itself would share a port with another one silently."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def is_open(host: str, port: int) -> bool:
    """Whether something takes connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def split(address: str) -> tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT` in two."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise Failure(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    """Two in one, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
