"""HTTP to one coordinator and nowhere else, in no more than the time a query has.

Each page of a result names the next one's address, so an address is the other side's to choose: it is held
against the coordinator's own before our token and our user's name go there. Redirects are not followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import parse_url

from servers.presto.cluster import Cluster

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
"""For one answer; a coordinator holds a request for a second, no longer."""
_CANCEL_SECONDS = 3.0


class OtherPlace(requests.exceptions.InvalidURL):
    """The coordinator named an address that isn't its own."""


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Adapter(HTTPAdapter):
    def __init__(self, cluster: Cluster, deadline: float, stopped: Callable[[], bool]) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._origin = (cluster.scheme, cluster.host.lower(), cluster.port)
        self._deadline = deadline
        self._stopped = stopped

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send one request, after checking that it goes where it may."""
        url = parse_url(request.url or "")
        default = 443 if url.scheme == "https" else 80
        if (url.scheme, (url.host or "").strip("[]").lower(), url.port or default) != self._origin:
            raise OtherPlace("the coordinator named an address that is not its own", request=request)
        if request.method == "DELETE":  # sent when the time is up, so it has its own
            kwargs["timeout"] = (CONNECT_SECONDS, _CANCEL_SECONDS)
            return super().send(request, *args, **kwargs)
        left = self._deadline - time.monotonic()
        if left <= 0 or self._stopped():
            raise requests.exceptions.InvalidSchema("the query's time is up", request=request)
        kwargs["timeout"] = (min(left, CONNECT_SECONDS), min(left, READ_SECONDS))
        return super().send(request, *args, **kwargs)


def session(cluster: Cluster, deadline: float, stopped: Callable[[], bool]) -> requests.Session:
    """Return a session for one query; `deadline` is by the monotonic clock."""
    made = requests.Session()
    made.trust_env = False
    made.max_redirects = 0
    made.verify = str(cluster.ca) if cluster.ca is not None else True
    made.mount("http://", _Adapter(cluster, deadline, stopped))
    made.mount("https://", _Adapter(cluster, deadline, stopped))
    token = cluster.bearer()
    if token is not None:
        made.auth = _Bearer(token)
    return made
