"""HTTP/1.1 by hand, for what no HTTP library would send, and HTTP/2 frames for the same reason."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import BufferedReader, BytesIO
from typing import Any, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions

SECONDS = 10.0
"""For a whole exchange; far longer than any takes."""


_ALPN = threading.Lock()


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name]
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The JSON-RPC error that every refusal is."""
        assert self.header("content-type") == "application/json", (self.status, self.headers, self.body)
        parsed = self.json
        assert parsed["jsonrpc"] == "2.0"
        assert set(parsed) == {"jsonrpc", "id", "error"}
        return cast("dict[str, Any]", parsed["error"])

    @property
    def reason(self) -> str:
        return cast("str", self.error["data"]["reason"])

    @property
    def reason_of_error(self) -> str:
        """As `reason`, of a server's answer, which may have members of its own."""
        return cast("str", self.json["error"]["data"]["reason"])


@dataclass(frozen=True, slots=True)
class Door:
    """One of Envoy's listeners as a client sees it."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    def connect(self, alpn: str = "http/1.1") -> socket.socket:
        raw = socket.create_connection((self.host, self.port), SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is None:
            return raw
        try:
            # One context, which is slow to make, so threads must not ask for two protocols at once.
            with _ALPN:
                self.tls.set_alpn_protocols([alpn])
                tls = self.tls.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
            tls.do_handshake()
        except BaseException:
            raw.close()
            raise
        return tls

    def exchange(self, data: bytes) -> list[Answer]:
        """Send exactly `data` and read until Envoy has said that it closes, or has closed.

        Every request in `data` should say `Connection: close`, or be so wrong that Envoy closes anyway.
        """
        with self.connect() as connection:
            # It may be refused before it is all read; the answer is there nevertheless.
            with contextlib.suppress(OSError):
                connection.sendall(data)
            return _read_answers(connection)

    def one(self, data: bytes) -> Answer:
        """As `exchange`, for what has exactly one answer."""
        (answer,) = self.exchange(data)
        return answer

    def http2(self, headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> Answer | str:
        """One HTTP/2 request with exactly these headers; the answer, or how the stream was refused."""
        with self.connect("h2") as connection:
            return _http2(connection, headers, body)


def _read_answers(connection: socket.socket) -> list[Answer]:
    """All answers up to one that says `Connection: close`: Envoy would wait a second for us to close."""
    received = b""
    while True:
        try:
            chunk = connection.recv(65_536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            chunk = b""
        received += chunk
        answers = _answers(received)
        if not chunk or (answers and answers[-1].header("connection") == "close"):
            return answers


class _Bytes:
    """What `HTTPResponse` wants of a socket."""

    def __init__(self, reader: BytesIO) -> None:
        self._reader = reader

    def makefile(self, mode: str) -> BufferedReader:
        return cast("BufferedReader", self._reader)


class _Unclosed(BytesIO):
    """A reader that survives `HTTPResponse.close`: the next response follows in the same bytes."""

    def close(self) -> None:
        pass


def _answers(data: bytes) -> list[Answer]:
    reader = _Unclosed(data)
    found: list[Answer] = []
    while reader.tell() < len(data):
        response = HTTPResponse(cast("socket.socket", _Bytes(reader)))
        try:
            response.begin()
            body = response.read()
        except HTTPException:
            break  # not whole yet
        found.append(Answer(response.status, tuple(response.getheaders()), body))
    return found


def _http2(connection: socket.socket, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Answer | str:
    config = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
    )
    state = h2.connection.H2Connection(config)
    state.initiate_connection()
    state.send_headers(1, list(headers), end_stream=not body)
    if body:
        state.send_data(1, body, end_stream=True)
    connection.sendall(state.data_to_send())
    status, answered, parts = 0, [], []
    while chunk := connection.recv(65_536):
        for event in state.receive_data(chunk):
            if isinstance(event, h2.events.ResponseReceived):
                pairs = [(bytes(k).decode(), bytes(v).decode("latin-1")) for k, v in event.headers or ()]
                status = int(dict(pairs)[":status"])
                answered = [pair for pair in pairs if not pair[0].startswith(":")]
            elif isinstance(event, h2.events.DataReceived):
                parts.append(event.data or b"")
            elif isinstance(event, h2.events.StreamReset):
                return f"stream reset {event.error_code}"
            elif isinstance(event, h2.events.ConnectionTerminated):
                return f"connection closed {event.error_code}"
            elif isinstance(event, h2.events.StreamEnded):
                return Answer(status, tuple(answered), b"".join(parts))
        connection.sendall(state.data_to_send())
    return "connection closed"


def request(
    method: str,
    target: str,
    host: str,
    headers: Iterable[tuple[str | bytes, str | bytes]] = (),
    body: bytes = b"",
    *,
    length: bool = True,
) -> bytes:
    """An HTTP/1.1 request, byte for byte: nothing is checked, nothing is added but what is seen here."""
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: " + host.encode("latin-1")]
    lines += [_raw(name) + b": " + _raw(value) for name, value in headers]
    if length and (body or method == "POST"):
        lines.append(b"Content-Length: " + str(len(body)).encode())
    lines.append(b"Connection: close")
    return b"\r\n".join([*lines, b"", body])


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
