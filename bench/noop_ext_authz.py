"""An ext_authz that allows everything without looking, on the transport that ours uses. `python -m bench.noop_ext_authz`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from extauthz.wire.ext_authz_pb2 import CheckResponse
from pdp import headers


def _allow() -> bytes:
    response = CheckResponse()
    response.status.code = 0
    for name in headers.FORWARDED:
        option = response.ok_response.headers.add()
        option.header.key, option.header.value = name, "x"
    return response.SerializeToString()


def main() -> None:
    allow = _allow()
    server = grpc.server(ThreadPoolExecutor(8))
    check = grpc.unary_unary_rpc_method_handler(lambda _request, _context: allow)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": check}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
