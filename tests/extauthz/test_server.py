"""The gRPC server, asked by a real client over loopback, a Unix socket and mTLS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extauthz.server import SERVICE, Server, Tls
from extauthz.wire.ext_authz_pb2 import CheckRequest, CheckResponse
from pdp.deployment import Address
from tests.extauthz.world import basis, bearer, check_request, headers_of, is_allow, reason, token, world

LOOPBACK = Address.parse("127.0.0.1:0")
Status = health_pb2.HealthCheckResponse


@contextmanager
def serving(
    check: Callable[[bytes], bytes], address: Address = LOOPBACK, tls: Tls | None = None
) -> Iterator[Server]:
    server = Server(check, address, tls)
    server.start()
    try:
        yield server
    finally:
        server.drain(0)


def ask(channel: grpc.Channel, request: CheckRequest) -> CheckResponse:
    return CheckResponse.FromString(call(channel)(request.SerializeToString(), timeout=5))


def call(channel: grpc.Channel) -> Callable[..., bytes]:
    return channel.unary_unary(f"/{SERVICE}/Check")


def health(channel: grpc.Channel, service: str = "") -> int:
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=5
    )
    return answer.status


def test_a_check_over_loopback(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    with serving(room.service.check) as server, grpc.insecure_channel(str(server.address)) as channel:
        assert server.address.port > 0
        allowed = ask(channel, check_request(bearer(token())))
        assert is_allow(allowed)
        assert headers_of(allowed)["x-forwarded-user"] == "00u1"
        assert reason(ask(channel, check_request())) == "credentials_required"


def test_bytes_that_do_not_parse_get_an_answer(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    with serving(room.service.check) as server, grpc.insecure_channel(str(server.address)) as channel:
        answer = CheckResponse.FromString(call(channel)(b"\xff\xff", timeout=5))
        assert reason(answer) == "malformed_request"
        assert reason(CheckResponse.FromString(call(channel)(b"", timeout=5))) == "malformed_request"


def test_a_check_over_a_unix_socket(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    address = Address.parse(f"unix:{tmp_path}/check.sock")
    with (
        serving(room.service.check, address) as server,
        grpc.insecure_channel(str(server.address)) as channel,
    ):
        assert is_allow(ask(channel, check_request(bearer(token()))))


def test_checks_run_side_by_side_while_policy_changes(tmp_path: Path) -> None:
    room = world(tmp_path, basis())
    request = check_request(bearer(token()))
    with (
        serving(room.service.check) as server,
        grpc.insecure_channel(str(server.address)) as channel,
        ThreadPoolExecutor(8) as pool,
    ):
        asked = [pool.submit(ask, channel, request) for _ in range(200)]
        for _ in range(20):
            room.service.stand_on(basis())
        assert all(is_allow(each.result()) for each in asked)
    ids = {line["decision_id"] for line in room.logged()}
    assert len(ids) == 200


def test_health_follows_readiness() -> None:
    with serving(lambda _: b"") as server, grpc.insecure_channel(str(server.address)) as channel:
        assert health(channel) == health(channel, SERVICE) == Status.NOT_SERVING
        server.ready(True)
        assert health(channel) == health(channel, SERVICE) == Status.SERVING
        server.ready(False)
        assert health(channel) == Status.NOT_SERVING


def test_drain_finishes_what_runs_and_takes_no_more() -> None:
    entered, release = threading.Event(), threading.Event()

    def check(_: bytes) -> bytes:
        entered.set()
        assert release.wait(10)
        return b"done"

    server = Server(check, LOOPBACK)
    server.start()
    server.ready(True)
    with grpc.insecure_channel(str(server.address)) as channel, ThreadPoolExecutor(2) as pool:
        running: Future[bytes] = pool.submit(call(channel), b"", timeout=10)
        assert entered.wait(5)
        drained = pool.submit(server.drain, 10)
        with grpc.insecure_channel(str(server.address)) as late:
            refused(late)
        release.set()
        assert running.result(10) == b"done"
        drained.result(10)


def refused(channel: grpc.Channel) -> None:
    """Until the server has begun to drain a new call may still be accepted; then none is."""
    for _ in range(50):
        try:
            call(channel)(b"", timeout=0.2)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:  # type: ignore[attr-defined]
                return
    raise AssertionError("calls were still accepted")


def test_off_loopback_without_tls_is_refused() -> None:
    with pytest.raises(ValueError, match="TLS is required"):
        Server(lambda _: b"", Address.parse("0.0.0.0:0"))


def test_a_taken_port_is_an_error() -> None:
    with (
        serving(lambda _: b"") as server,
        pytest.raises(OSError, match=f"127.0.0.1:{server.address.port}: can't listen there"),
    ):
        Server(lambda _: b"", server.address)


class Ca:
    """Certificates for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("ca", self.key.public_key(), ca=True)
        (folder / "ca.pem").write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _sign(self, name: str, key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if ca else self.certificate.subject
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(self._sign(name, key.public_key(), ca=False).public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private


def test_mtls_and_renewal(tmp_path: Path) -> None:
    ca = Ca(tmp_path)
    authority = (tmp_path / "ca.pem").read_bytes()
    tls = Tls(*ca.issue("server"), client_ca=tmp_path / "ca.pem")
    certificate, key = (path.read_bytes() for path in ca.issue("client"))
    client = grpc.ssl_channel_credentials(authority, key, certificate)
    with serving(lambda _: b"answer", LOOPBACK, tls) as server:
        with grpc.secure_channel(str(server.address), client) as channel:
            assert call(channel)(b"", timeout=5) == b"answer"
        nobody = grpc.ssl_channel_credentials(authority)
        with grpc.secure_channel(str(server.address), nobody) as channel, pytest.raises(grpc.RpcError):
            call(channel)(b"", timeout=5)
        renewed = Ca(tmp_path)
        renewed.issue("server")
        fresh = (tmp_path / "ca.pem").read_bytes()
        certificate, key = (path.read_bytes() for path in renewed.issue("client"))
        client = grpc.ssl_channel_credentials(fresh, key, certificate)
        with grpc.secure_channel(str(server.address), client) as channel:
            assert call(channel)(b"", timeout=5) == b"answer"
