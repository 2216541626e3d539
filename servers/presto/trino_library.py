"""Trino's own client library. Only where the extra `presto-trino` is installed."""

from __future__ import annotations

import requests
from trino.client import ClientSession, TrinoRequest
from trino.exceptions import Error, HttpError, TrinoQueryError

from servers.presto.cluster import SOURCE, Cluster
from servers.presto.engine import Asker
from servers.presto.statements import Client


class Trino:
    """Speaks `X-Trino-*`."""

    name = "trino"
    title = "Trino"
    dialect = "trino"
    query_error: type[Exception] = TrinoQueryError
    errors: tuple[type[Exception], ...] = (Error, HttpError)

    def client(self, cluster: Cluster, asker: Asker, seconds: float, session: requests.Session) -> Client:
        """Return a client for one statement."""
        user = cluster.user_for(asker)
        headers = dict(asker.headers)
        if "traceparent" in headers:  # the trace's id, which Trino shows beside the query
            headers["X-Trino-Trace-Token"] = headers["traceparent"].split("-")[1]
        client_session = ClientSession(
            user=user,
            catalog=cluster.catalog,
            schema=cluster.schema,
            source=SOURCE,
            properties={"query_max_run_time": f"{max(1, round(seconds))}s"},
            headers=headers,
            client_tags=cluster.tags(asker),
            timezone="UTC",
        )
        client: Client = TrinoRequest(
            cluster.host, cluster.port, client_session, http_session=session, http_scheme=cluster.scheme
        )
        return client
