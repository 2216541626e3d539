"""Where something listens, as text and as a value."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


class AddressError(ValueError):
    """The text is not `host:port`, `[ipv6]:port` or `unix:/path`."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: a TCP host and port, or a Unix socket's path."""

    host: str = ""
    port: int = 0
    unix: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `127.0.0.1:9001`, `[::1]:9001` or `unix:/run/x.sock`.

        Raises:
            AddressError: saying which form was expected.

        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/"):
                raise AddressError("a Unix address is unix:/absolute/path")
            return cls(unix=path)
        host, separator, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise AddressError("an IPv6 address stands in brackets: [::1]:9001")
        if not separator or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
            raise AddressError("expected host:port or unix:/path")
        return cls(host, int(port))

    @property
    def is_local(self) -> bool:
        """Whether nobody off this machine can reach it: loopback or a Unix socket."""
        if self.unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
