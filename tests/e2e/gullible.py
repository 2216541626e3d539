"""An ext_authz that answers whatever it is told to, to see what is left when the real one is no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from extauthz.wire.ext_authz_pb2 import CheckResponse

METHOD = "/envoy.service.auth.v3.Authorization/Check"


class _Answer(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, response: CheckResponse) -> None:
        self._raw = response.SerializeToString()
        self.asked = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.asked.set()
        return self._raw


@contextmanager
def answering(address: str, response: CheckResponse) -> Iterator[threading.Event]:
    """Stand at `address` and give every check this answer; the event says that somebody asked."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    answer = _Answer(response)
    server.add_generic_rpc_handlers((answer,))
    assert server.add_insecure_port(address)
    server.start()
    try:
        yield answer.asked
    finally:
        server.stop(0).wait()
