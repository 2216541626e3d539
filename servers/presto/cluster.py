"""A Trino or Presto coordinator: where it is, who we are there, and whom a query runs as."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from servers.presto.engine import Asker, EngineError

SOURCE = "gatehouse-presto"
_LONGEST_USER = 255


class ClusterError(ValueError):
    """The settings make no sense, or are not safe."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """How to reach a coordinator."""

    host: str
    port: int
    catalog: str
    schema: str
    catalogs: frozenset[str]
    """Those that may be named; `catalog` is one of them."""
    scheme: Literal["http", "https"] = "https"
    ca: Path | None = None
    """Whom to believe besides nobody; None: the authorities that requests brings."""
    token: Path | None = None
    """A file with the bearer token that this server shows; read for each query, so it may be renewed."""
    user: str = SOURCE
    """Who this server is, for what no user has asked."""
    run_as: Literal["caller", "service"] = "caller"
    users_of: str = ""
    """The issuer whose users the cluster knows by the same names."""

    def __post_init__(self) -> None:
        """Refuse what would send a token or rows in the clear, or mix up two issuers' users.

        Raises:
            ClusterError: says which.

        """
        if self.scheme == "http" and not _is_loopback(self.host):
            raise ClusterError(f"{self.host} is not loopback, so it takes TLS (--tls)")
        if self.run_as == "caller" and not self.users_of:
            raise ClusterError("say whose users the cluster knows (--users-of ISSUER), or --run-as service")
        if self.catalog not in self.catalogs or "system" in self.catalogs:
            raise ClusterError("the catalogs hold the default one, and never `system`")

    def bearer(self) -> str | None:
        """Return the token, if there is one.

        Raises:
            EngineError: the file can't be read.

        """
        if self.token is None:
            return None
        try:
            return self.token.read_text("ascii").strip()
        except (OSError, ValueError):
            raise EngineError("This server can't read its token for the cluster. Tell its owner.") from None

    def user_for(self, asker: Asker) -> str:
        """Return the name that a query runs under: what the cluster's own access rules go by.

        Raises:
            EngineError: the cluster can't know this caller.

        """
        if self.run_as == "service" or asker.user is None:
            return self.user
        if asker.issuer != self.users_of:
            raise EngineError("The cluster doesn't know the users of your identity provider. Ask its owner.")
        if not (asker.user.isascii() and asker.user.isprintable() and len(asker.user) <= _LONGEST_USER):
            raise EngineError("The cluster can't take a user name like yours. Ask its owner.")
        return asker.user

    def tags(self, asker: Asker) -> list[str]:
        """Return the client tags, which resource groups and the query log go by."""
        tags = ["gatehouse", f"surface:{asker.surface}"]
        if asker.user is not None and self.run_as == "service":
            tags.append(f"user:{asker.key.removeprefix('user:')}")
        return [tag for tag in tags if tag.isascii() and tag.isprintable() and "," not in tag]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
