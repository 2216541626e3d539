"""Real parts for tests: `CheckRequest`s as Envoy sends them, tokens, certificates, a service."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import CollectorRegistry

from extauthz.basis import Basis
from extauthz.log import DecisionLog
from extauthz.metrics import Metrics
from extauthz.service import CheckService
from extauthz.wire.ext_authz_pb2 import CheckRequest, CheckResponse, HeaderValueOption
from identity.assertion import AssertionVerifier, Minter
from identity.authenticate import Authenticator
from identity.jwk import JwkSet, KeySource
from identity.signing import SigningKeys, generate_signing_key
from identity.svid import JwtSvidVerifier
from identity.tokens import TokenVerifier
from pdp.model import Snapshot
from tests.identity.signers import NOW, bundle, claims, key_set, signer
from tests.pdp.snapshots import snapshot

RESOURCE = "https://mcp.corp.example/presto/mcp"
SVID_SIGNER = signer("ES256", 7)
SIGNING: SigningKeys = generate_signing_key()

Header = tuple[str, str | bytes]
RUN_QUERY: Mapping[str, Any] = {"method": "tools/call", "params": {"name": "run_query"}}


def resource_url(server: str) -> str:
    return f"https://mcp.corp.example/{server}/mcp"


def token(**changes: Any) -> str:
    """A token of the test issuer for the IDE plugin."""
    return signer().sign(claims(**{"azp": "ide-plugin", **changes}))


def svid_token(**changes: Any) -> str:
    said = {
        "sub": "spiffe://corp.example/ns/prod/sa/report-bot",
        "aud": RESOURCE,
        "exp": NOW + 300,
        **changes,
    }
    return SVID_SIGNER.sign(said)


def bearer(text: str) -> Header:
    return "authorization", f"Bearer {text}"


def mcp(message: Mapping[str, Any]) -> dict[str, Any]:
    """What Envoy's MCP filter says of a JSON-RPC message."""
    return {"jsonrpc": "2.0", "id": 1, "status": "mcp_ok", "is_mcp_request": True, **message}


def check_request(
    *headers: Header,
    message: Mapping[str, Any] | None = RUN_QUERY,
    verb: str = "POST",
    server: str | None = "presto",
    listener: str | None = "users",
    certificate: str = "",
) -> CheckRequest:
    """A `CheckRequest`; `message` None leaves the MCP filter's metadata out, as it does on GET and DELETE."""
    request = CheckRequest()
    attributes = request.attributes
    attributes.source.certificate = certificate
    http = attributes.request.http
    http.id, http.method = "1539451368037279008", verb
    usual: tuple[Header, ...] = (
        (":authority", "mcp.corp.example"), (":path", "/presto/mcp"), (":method", verb), (":scheme", "https"),
        ("accept", "application/json, text/event-stream"), ("content-type", "application/json"),
        ("user-agent", "test"), ("x-forwarded-proto", "https"), ("x-request-id", "e8122c2f-cf09-441b"),
    )  # fmt: skip
    http.header_map.SetInParent()
    for name, value in (*usual, *headers):
        http.header_map.headers.add(key=name, raw_value=value if isinstance(value, bytes) else value.encode())
    if server is not None:
        attributes.context_extensions["server"] = server
    if listener is not None:
        attributes.context_extensions["listener"] = listener
    if message is not None:
        attributes.metadata_context.filter_metadata["envoy.filters.http.mcp"].update(mcp(message))
    return request


def certificate(*uris: str, days: float = 1, ca: bool = False) -> str:
    """An X.509-SVID valid at NOW, percent-encoded as Envoy passes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    start = datetime.fromtimestamp(NOW, UTC) - timedelta(hours=1)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(start, start + timedelta(days=days - 1)))
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, ca, False, False, False), critical=True
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return quote(built.public_bytes(Encoding.PEM).decode(), safe="")


class NoKeys:
    """An issuer whose keys were never fetched."""

    def current(self) -> JwkSet | None:
        return None

    def wanted(self, kid: str | None) -> None:
        pass


@dataclass(frozen=True)
class World:
    """A service with its log on disk."""

    service: CheckService
    log: DecisionLog
    path: Path
    registry: CollectorRegistry

    def check(self, request: CheckRequest | bytes) -> CheckResponse:
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        return CheckResponse.FromString(self.service.check(raw))

    def logged(self) -> list[dict[str, Any]]:
        """Everything decided so far; the log is closed."""
        assert self.log.close(5)
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def basis(policy: Snapshot | None = None, keys: KeySource | None = None) -> Basis:
    policy = policy or snapshot()
    authenticator = Authenticator(
        TokenVerifier(policy.issuers, {"sso": keys or key_set(signer())}),
        JwtSvidVerifier({"corp.example": bundle(SVID_SIGNER)}),
        trust_domains=policy.trust_domains,
    )
    return Basis(policy, authenticator, Minter(SIGNING), resource_url)


def world(folder: Path, stands_on: Basis | None, now: float = NOW) -> World:
    path = folder / "decisions.jsonl"
    registry = CollectorRegistry()
    log = DecisionLog(str(path))
    service = CheckService(log, Metrics(registry), clock=lambda: now)
    if stands_on is not None:
        service.stand_on(stands_on)
    return World(service, log, path, registry)


def verifier(server: str = "presto") -> AssertionVerifier:
    return AssertionVerifier(JwkSet.parse(SIGNING.public_jwks()), server)


def pairs(options: Iterable[HeaderValueOption]) -> list[tuple[str, str]]:
    return [(option.header.key, option.header.value) for option in options]


def headers_of(response: CheckResponse) -> dict[str, str]:
    """The headers that a response sets, which none sets twice."""
    denied = response.WhichOneof("http_response") == "denied_response"
    found = pairs(response.denied_response.headers if denied else response.ok_response.headers)
    assert len(found) == len(dict(found))
    return dict(found)


def is_allow(response: CheckResponse) -> bool:
    """As Envoy reads it: an empty response is one too."""
    return response.status.code == 0


def reason(response: CheckResponse) -> str:
    assert not is_allow(response)
    body = json.loads(response.denied_response.body)
    code: str = body["error"]["data"]["reason"]
    return code
