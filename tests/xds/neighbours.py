"""What stands around Envoy here: an ext_authz that does as it is told, and a server that remembers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

from extauthz.wire import ext_authz_pb2 as wire
from tests.support.envoy import free_port

Answer = Callable[[wire.CheckRequest], wire.CheckResponse]
_SERVING = b"\x08\x01"


def allow(_: wire.CheckRequest) -> wire.CheckResponse:
    """The emptiest allow there is: Envoy changes nothing of the request."""
    return wire.CheckResponse()


class FakeExtAuthz:
    """Answers each check with `answer`, and keeps every request. Dies and comes back on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answer: Answer = allow
        self.requests: list[wire.CheckRequest] = []
        self._server: grpc.Server | None = None
        self.start()

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        check = grpc.unary_unary_rpc_method_handler(
            self._check, wire.CheckRequest.FromString, wire.CheckResponse.SerializeToString
        )
        health = grpc.unary_unary_rpc_method_handler(lambda request, context: _SERVING)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": check}),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),
            )
        )
        assert self._server.add_insecure_port(f"127.0.0.1:{self.port}") == self.port
        self._server.start()

    def kill(self) -> None:
        if self._server is not None:
            self._server.stop(None).wait(5)
            self._server = None

    def _check(self, request: wire.CheckRequest, _: grpc.ServicerContext) -> wire.CheckResponse:
        self.requests.append(request)
        return self.answer(request)


@dataclass
class Hit:
    """One request that reached the server."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Upstream:
    """An HTTP/1.1 server on loopback that answers 200 with JSON, and remembers."""

    port: int
    hits: list[Hit] = field(default_factory=list)
    status: int = 200
    body: bytes = b'{"jsonrpc":"2.0","id":1,"result":{}}'


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    upstream = Upstream(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            upstream.hits.append(Hit(self.command, self.path, list(self.headers.items()), body))
            self.send_response(upstream.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(upstream.body)))
            self.end_headers()
            self.wfile.write(upstream.body)

        do_GET = do_POST = do_DELETE = do_PUT = do_OPTIONS = do_TRACE = do_HEAD = do_PATCH = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    upstream.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def header(name: str, value: str) -> wire.HeaderValueOption:
    option = wire.HeaderValueOption
    return option(
        header=option.HeaderValue(key=name, value=value), append_action=option.OVERWRITE_IF_EXISTS_OR_ADD
    )


def deny(status: int, body: str) -> Answer:
    denied = wire.DeniedHttpResponse(status=wire.HttpStatus(code=status), body=body)
    denied.headers.append(header("content-type", "application/json"))
    return lambda _: wire.CheckResponse(status=wire.RpcStatus(code=7), denied_response=denied)
