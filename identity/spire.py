"""JWT bundles from a SPIFFE Workload API (SPIRE's agent), where there is one. Needs the extra `spire`.

Only the keys are taken from there. The tokens are judged by `svid`, since the `spiffe` package's own
validation is laxer than the standard.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from spiffe import WorkloadApiClient
from spiffe.errors import PySpiffeError
from spiffe.spiffe_id.spiffe_id import TrustDomain

from identity.jwk import JwkSet, public_jwk
from identity.jwks import Fetch, FetchError, JwksCache

TIMEOUT = 2.0
"""Seconds for one look at the Workload API."""
INTERVAL = 30.0
"""Seconds between looks: SPIRE publishes a key long before it signs with it."""


def open_bundle(trust_domain: str, socket: str) -> JwksCache:
    """A cache, not started, for the JWT authorities of one trust domain.

    `socket` is the agent's address, such as `unix:///run/spire/agent.sock`.
    """
    fetch = from_workload_api(trust_domain, socket)
    return JwksCache(trust_domain, fetch, parse=JwkSet.parse_spiffe_bundle, interval=INTERVAL)


def from_workload_api(trust_domain: str, socket: str) -> Fetch:
    """Ask the agent each time, and write what it answers as the bundle that a file would hold."""

    def fetch() -> bytes:
        try:
            client = WorkloadApiClient(socket, default_timeout=TIMEOUT)
            try:
                bundle = client.fetch_jwt_bundles().get_bundle_for_trust_domain(TrustDomain(trust_domain))
            finally:
                client.close()
        except PySpiffeError as error:
            raise FetchError(f"no answer of the Workload API ({type(error).__name__})") from None
        if bundle is None:
            raise FetchError("the Workload API has no bundle of this trust domain")
        return _document(bundle.jwt_authorities)

    return fetch


def _document(authorities: Mapping[str, object]) -> bytes:
    keys = []
    for kid, key in authorities.items():
        if isinstance(key, EllipticCurvePublicKey | RSAPublicKey):
            jwk = public_jwk(key, use="jwt-svid")
            keys.append({**jwk, "kid": kid})
    return json.dumps({"keys": keys}).encode()
