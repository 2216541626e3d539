"""Speak HTTP with Airflow: sign in, ask, sign in again when the token is over, and bound every answer."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import httpx

from servers.airflow.engine import EngineError

MAX_ANSWER = 8 * 1024 * 1024
MAX_LOG = 64 * 1024 * 1024
"""Bytes of one log that are read. Airflow sends a log from its beginning, and what counts is its end."""

Params: TypeAlias = Mapping[str, str | int | list[str]]
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_SECONDS = 60.0
"""For one answer from its first byte to its last."""

_API = "/api/v2"
_GONE = "Airflow can't be reached now. Try again in a minute; if that doesn't help, tell whoever runs it."


@dataclass(frozen=True, slots=True)
class Password:
    """Sign in with a name and a password at `/auth/token`."""

    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Token:
    """Use a token that somebody else renews, as managed Airflow hands them out."""

    text: str


class ConfigurationError(Exception):
    """What the command line says about Airflow can't be used."""


class Client:
    """One Airflow. Used from several threads."""

    def __init__(
        self, base_url: str, credentials: Password | Token, *, ca: Path | None = None, timeout: float = 20.0
    ) -> None:
        """Prepare; nothing is asked yet, so that the server starts while Airflow is away.

        Raises:
            ConfigurationError: the address would send the password in the clear, or is none.

        """
        self._credentials = credentials
        self._token = credentials.text if isinstance(credentials, Token) else ""
        self._signing_in = threading.Lock()
        self._http = httpx.Client(
            base_url=_checked(base_url),
            timeout=httpx.Timeout(timeout, connect=5.0),
            verify=ssl.create_default_context(cafile=ca) if ca else True,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=4),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Params | None = None) -> dict[str, Json]:
        """Ask for a JSON object.

        Raises:
            EngineError: Airflow refuses, is away, or says what nobody understands.

        """
        for attempt in (1, 2):
            try:
                return self._object("GET", path, params=params)
            except _Away:
                if attempt == 2:
                    raise
        raise AssertionError  # the loop ends in one of the two ways above

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Json]:
        """Have something done, once: it isn't tried again where the answer got lost.

        Raises:
            EngineError: as `get`.

        """
        return self._object("POST", path, body=body)

    def lines(self, path: str, params: Params) -> Generator[str, None, None]:
        """Yield the lines of an `application/x-ndjson` answer as they come, `MAX_LOG` bytes at most."""
        with self._answer("GET", path, params=params, accept="application/x-ndjson") as response:
            yield from _lines(response)

    def _object(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Mapping[str, object] | None = None,
    ) -> dict[str, Json]:
        with self._answer(method, path, params=params, body=body) as response:
            value = _json(_bounded(response))
        if not isinstance(value, dict):
            raise EngineError("Airflow's answer is not the API v2's. Is this an Airflow 3?")
        return value

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Mapping[str, object] | None = None,
        accept: str = "application/json",
    ) -> Generator[httpx.Response, None, None]:
        token = self._token or self._sign_in("")
        for last in (False, True):
            request = self._http.build_request(method, _API + path, params=params, json=body)
            request.headers["accept"] = accept
            request.headers["authorization"] = f"Bearer {token}"
            with _sent(self._http, request) as response:
                if response.is_success:
                    yield response
                    return
                answer = _bounded(response)
                if last or isinstance(self._credentials, Token) or not _token_is_over(response, answer):
                    raise _refusal(response, answer)
            token = self._sign_in(token)

    def _sign_in(self, old: str) -> str:
        """Return a token that isn't `old`; of several threads that need one, one fetches it."""
        with self._signing_in:
            if self._token != old:
                return self._token
            if isinstance(self._credentials, Token):
                return self._token
            body = {"username": self._credentials.username, "password": self._credentials.password}
            with _sent(self._http, self._http.build_request("POST", "/auth/token", json=body)) as response:
                answer = _bounded(response)
                if not response.is_success:
                    raise EngineError("Airflow does not accept this server's own account. Tell its owner.")
            value = _json(answer)
            token = value.get("access_token") if isinstance(value, dict) else None
            if not isinstance(token, str) or not token:
                raise EngineError("Airflow gave no token to this server. Tell its owner.")
            self._token = token
            return token


class _Away(EngineError):
    """The connection failed, or something before Airflow says so."""

    def __init__(self) -> None:
        super().__init__(_GONE)


def segment(name: str) -> str:
    """Quote an id as one segment of a path.

    Raises:
        EngineError: it would mean something else there: `~` is every DAG or run, dots lead upwards.

    """
    if not name.strip(".") or name == "~" or any(ord(c) < 32 for c in name):
        raise EngineError(f"{name!r} is no id. Take one from list_dags or list_dag_runs.")
    return quote(name, safe="")


def _checked(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{base_url!r} is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ConfigurationError(f"{base_url!r} must be http(s)://HOST[:PORT][/PATH]")
    if url.scheme == "http" and not _loopback(url.host):
        raise ConfigurationError("off loopback Airflow needs https: its password would travel in the clear")
    return base_url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _sent(http: httpx.Client, request: httpx.Request) -> Generator[httpx.Response, None, None]:
    try:
        response = http.send(request, stream=True)
    except httpx.HTTPError:
        raise _Away from None
    try:
        yield response
    finally:
        response.close()


def _chunks(response: httpx.Response) -> Generator[bytes, None, None]:
    """Yield a body as it comes. A read has its own timeout, and here is one for all of them together."""
    deadline = time.monotonic() + MAX_SECONDS
    try:
        for chunk in response.iter_bytes():
            if time.monotonic() > deadline:
                raise _Away
            yield chunk
    except httpx.HTTPError:
        raise _Away from None


def _lines(response: httpx.Response) -> Generator[str, None, None]:
    """Split at newlines only: JSON may hold other characters that `str.splitlines` splits at."""
    size, rest = 0, bytearray()
    for chunk in _chunks(response):
        size += len(chunk)
        if size > MAX_LOG:
            yield json.dumps({"event": "[the log goes on; only its first 64 MiB were read]"})
            return
        *ended, last = chunk.split(b"\n")
        for piece in ended:
            rest += piece
            yield rest.decode("utf-8", "replace")
            rest.clear()
        rest += last
        if len(rest) > MAX_ANSWER:
            raise EngineError(
                "One line of this log is too large to be read. Look at it in Airflow's own pages."
            )
    if rest:
        yield rest.decode("utf-8", "replace")


def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in _chunks(response):
        body += chunk
        if len(body) > MAX_ANSWER:
            raise EngineError("Airflow's answer is too large. Ask for less: a smaller limit, or one DAG.")
    return bytes(body)


def _json(body: bytes) -> Json:
    try:
        value: Json = json.loads(body)
    except (ValueError, RecursionError):
        raise EngineError("Airflow's answer is not JSON. Is something else at its address?") from None
    return value


def _token_is_over(response: httpx.Response, answer: bytes) -> bool:
    """Airflow 3.3 says 401 of a token that expired, and 403 of one that it can't verify: its key changed."""
    return response.status_code == 401 or (response.status_code == 403 and b"Invalid JWT token" in answer)


def _refusal(response: httpx.Response, answer: bytes) -> EngineError:
    status = response.status_code
    if status in (502, 503, 504):
        return _Away()
    if status >= 500:
        return EngineError(f"Airflow failed inside (HTTP {status}). Try again; its owner's log says more.")
    if status == 401:
        return EngineError("Airflow does not accept this server's own account. Tell its owner.")
    detail = _detail(answer)
    if status == 403:
        return EngineError(f"Airflow forbids it to this server's own account: {detail}. Tell its owner.")
    if status == 404:
        return EngineError(f"{detail}. list_dags and list_dag_runs say what there is.")
    return EngineError(f"Airflow refuses: {detail}.")


def _detail(answer: bytes) -> str:
    """Return Airflow's own words, which may be text, or a list of what is wrong in the request."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return "it does not say why"
    detail = value.get("detail") if isinstance(value, dict) else None
    if isinstance(detail, dict):
        detail = detail.get("reason")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        detail = detail[0].get("msg")
    return detail[:300].rstrip(". ") if isinstance(detail, str) else "it does not say why"
