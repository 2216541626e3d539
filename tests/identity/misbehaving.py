"""A JWKS server that does everything wrong that a server can, on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from identity.jwk import MAX_SET_BYTES
from tests.identity.signers import document, signer

DEADLINE = 10.0
OLD, NEW = signer("ES256", 1), signer("ES256", 2)
GOOD = document([OLD.jwk])

Answer = Callable[[BaseHTTPRequestHandler], None]


def body(data: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


class Server:
    """Answers every request with `answer`, and notes the paths asked for."""

    def __init__(self) -> None:
        self.answer: Answer = body(GOOD)
        self.paths: list[str] = []
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                try:
                    outer.answer(self)
                except OSError:
                    self.close_connection = True  # the client hung up, as it should

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/jwks"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(DEADLINE)


def drip(server: Server) -> Answer:
    """A byte now and then, for ever: each read is quick, the whole never ends."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("content-length", "1000")
        request.end_headers()
        while not server.closing.wait(0.05):
            request.wfile.write(b" ")
            request.wfile.flush()

    return answer


def drip_headers(server: Server) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not server.closing.wait(0.05):
            request.wfile.write(b"x: y\r\n")
            request.wfile.flush()

    return answer


def silent(server: Server) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        server.closing.wait(DEADLINE)

    return answer


def flood(request: BaseHTTPRequestHandler) -> None:
    """50 MB, chunked, so that nothing tells its length beforehand."""
    request.send_response(200)
    request.send_header("transfer-encoding", "chunked")
    request.end_headers()
    chunk = b" " * 100_000
    for _ in range(500):
        request.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("content-length", str(len(GOOD)))
    request.end_headers()
    request.wfile.write(GOOD[:-10])


SECRET = {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}

FAULTS: dict[str, Callable[[Server], Answer]] = {
    "silent": silent,
    "slow body": drip,
    "slow headers": drip_headers,
    "hangs up": lambda _: hang_up,
    "50 MB": lambda _: flood,
    "a byte too large": lambda _: body(GOOD + b" " * (MAX_SET_BYTES + 1 - len(GOOD))),
    "redirect": lambda _: body(b"", 302, location="/elsewhere"),
    "permanent redirect": lambda _: body(GOOD, 308, location="/elsewhere"),
    "not found": lambda _: body(GOOD, 404),
    "server error": lambda _: body(GOOD, 500),
    "no content": lambda _: body(b"", 204),
    "not modified": lambda _: body(b"", 304),
    "compressed": lambda _: body(GOOD, content_encoding="gzip"),
    "garbage": lambda _: body(b"\x00\xff garbage"),
    "html": lambda _: body(b"<html>sign in</html>"),
    "empty": lambda _: body(b""),
    "no keys": lambda _: body(b'{"keys":[]}'),
    "keys twice": lambda _: body(GOOD[:-1] + b"," + GOOD[1:]),
    "duplicate kid": lambda _: body(document([NEW.jwk, {**OLD.jwk, "kid": NEW.kid}])),
    "oct key": lambda _: body(document([NEW.jwk, SECRET])),
    "private key": lambda _: body(document([NEW.jwk, {**OLD.jwk, "d": OLD.jwk["x"]}])),
    "broken key": lambda _: body(document([NEW.jwk, {**OLD.jwk, "x": OLD.jwk["y"]}])),
}
