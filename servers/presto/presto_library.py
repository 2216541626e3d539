"""Presto's own client library. Only where the extra `presto-presto` is installed."""

from __future__ import annotations

import requests
from prestodb.client import ClientSession, PrestoRequest  # type: ignore[import-untyped]
from prestodb.exceptions import (  # type: ignore[import-untyped]
    Error,
    HttpError,
    PrestoQueryError,
    RetryWithExponentialBackoff,
)
from prestodb.redirect import RedirectHandler  # type: ignore[import-untyped]

from servers.presto.cluster import SOURCE, Cluster
from servers.presto.engine import Asker
from servers.presto.statements import Client
from servers.presto.transport import OtherPlace


class _Nowhere(RedirectHandler):  # type: ignore[misc]
    """The library's own handler follows, after it has asked the name service who an address is."""

    def handle(self, url: str) -> str:  # noqa: ARG002 - wherever it leads
        raise OtherPlace("the coordinator redirects")


class Presto:
    """Speaks `X-Presto-*`."""

    name = "presto"
    title = "Presto"
    dialect = "presto"
    query_error: type[Exception] = PrestoQueryError
    errors: tuple[type[Exception], ...] = (Error, HttpError)

    def client(self, cluster: Cluster, asker: Asker, seconds: float, session: requests.Session) -> Client:
        """Return a client for one statement."""
        headers = {
            **asker.headers,
            "X-Presto-Time-Zone": "UTC",
            "X-Presto-Client-Tags": ",".join(cluster.tags(asker)),
        }
        if "traceparent" in headers:
            headers["X-Presto-Trace-Token"] = headers["traceparent"].split("-")[1]
        client_session = ClientSession(
            cluster.user_for(asker),
            catalog=cluster.catalog,
            schema=cluster.schema,
            source=SOURCE,
            properties={"query_max_run_time": f"{max(1, round(seconds))}s"},
            headers=headers,
        )
        client: Client = PrestoRequest(
            cluster.host,
            cluster.port,
            client_session,
            http_session=session,
            http_scheme=cluster.scheme,
            redirect_handler=_Nowhere(),
            handle_retry=RetryWithExponentialBackoff(max_delay=1),
        )
        return client
