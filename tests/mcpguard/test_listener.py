"""Where a server may listen."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcpguard.listener import Listener, StartError, configure
from tests.mcpguard.running import listening_on


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("127.8.8.8:65535", "127.8.8.8", 65535),
        ("localhost:80", "127.0.0.1", 80),
        ("[::1]:9101", "::1", 9101),
    ],
)
def test_loopback_needs_no_tls(text: str, host: str, port: int) -> None:
    listener = Listener.parse(text)
    assert (listener.host, listener.port) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:80",
        "[::]:80",
        "10.0.0.1:80",
        "example.com:80",
        ":80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:-1",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(StartError):
        Listener.parse(text)


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError, match="can't listen"):
        Listener.parse(f"127.0.0.1:{taken.getsockname()[1]}").bind()


def test_the_socket_names_tcp() -> None:
    """Else asyncio leaves Nagle's algorithm on, and each answer waits 40 ms."""
    with Listener.parse("127.0.0.1:0").bind() as bound:
        assert bound.proto == socket.IPPROTO_TCP


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "tls.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return tmp_path / "tls.pem", tmp_path / "tls.key"


async def hello(scope: object, receive: object, send: uvicorn._types.ASGISendCallable) -> None:
    assert isinstance(scope, dict)
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[typeddict-item]
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def test_with_a_client_ca_only_its_clients_get_in(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    listener = Listener.parse("127.0.0.1:0", certificate, key, certificate)
    config = configure(hello, listener)  # type: ignore[arg-type]
    config.lifespan = "off"
    context = ssl.create_default_context(cafile=str(certificate))
    with listening_on(config, listener) as port:
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            httpx.get(f"https://127.0.0.1:{port}/", verify=context, trust_env=False)
        context.load_cert_chain(certificate, key)
        answer = httpx.get(f"https://127.0.0.1:{port}/", verify=context, trust_env=False)
        assert answer.status_code == 204


def test_half_a_tls_is_refused(pair: tuple[Path, Path]) -> None:
    certificate, _ = pair
    with pytest.raises(StartError, match="both"):
        Listener.parse("0.0.0.0:0", certificate)
    with pytest.raises(StartError, match="client CA"):
        Listener.parse("127.0.0.1:0", client_ca=certificate)
