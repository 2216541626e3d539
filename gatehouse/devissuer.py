"""A development token issuer's public side: `python -m gatehouse.devissuer`.

It serves what a verifier fetches, `/jwks` and `/.well-known/openid-configuration`, on loopback only. No
endpoint gives out tokens: `gatehouse token` signs them from the key file, which is for its owner alone.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

from gatehouse import keys
from gatehouse.errors import Failure

WARNING = "DEVELOPMENT ISSUER: whoever can read its key can be anybody. Never trust it beyond this machine."


def documents(key: keys.DevKey, issuer: str) -> dict[str, bytes]:
    """What is served, by path (OpenID Connect Discovery 1.0 section 3, RFC 7517 section 5)."""
    discovery = {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/jwks",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [key.algorithm],
    }
    return {
        "/jwks": json.dumps({"keys": [key.public()]}).encode(),
        "/.well-known/openid-configuration": json.dumps(discovery).encode(),
    }


class IssuerServer(ThreadingHTTPServer):
    """Serves a fixed set of JSON documents."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], served: Mapping[str, bytes]) -> None:
        super().__init__(address, _Document)
        self.served = served


class _Document(BaseHTTPRequestHandler):
    server: IssuerServer
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        body = self.server.served.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        print(json.dumps({"component": "devissuer", "request": format % args}), file=sys.stderr)  # noqa: T201


def loopback(text: str) -> tuple[str, int]:
    """Parse `127.0.0.1:PORT`, loopback addresses only."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not ADDRESS:PORT") from error
    if not address.is_loopback:
        raise argparse.ArgumentTypeError(
            f"{text} is not on loopback: a development issuer listens nowhere else"
        )
    return str(address), number


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m gatehouse.devissuer", description=WARNING)
    parser.add_argument("--keys", type=Path, required=True, help="private JWK set, made where it is absent")
    parser.add_argument("--issuer", default="https://sso.corp.example", help="the `iss` of its tokens")
    parser.add_argument("--listen", type=loopback, default="127.0.0.1:0", metavar="ADDRESS:PORT")
    options = parser.parse_args(arguments)
    try:
        key = keys.load_or_make(options.keys, "RS256")
    except Failure as failure:
        parser.exit(failure.code, f"devissuer: {failure}\n")
    server = IssuerServer(options.listen, documents(key, options.issuer))
    print(json.dumps({"component": "devissuer", "warning": WARNING}), file=sys.stderr)  # noqa: T201
    _serve(server)
    return 0


def _serve(server: IssuerServer) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(
            target=server.shutdown
        ).start()  # shutdown() waits for the loop this handler interrupts

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    host, port = server.server_address[:2]
    print(json.dumps({"component": "devissuer", "listen": f"{host!s}:{port}"}), flush=True)  # noqa: T201
    with server:
        server.serve_forever(poll_interval=0.2)


if __name__ == "__main__":
    sys.exit(main())
