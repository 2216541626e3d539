"""SVIDs: how a workload proves its SPIFFE ID, by a certificate (X.509-SVID) or by a token (JWT-SVID).

Envoy checks the certificate's chain against the trust bundle in the handshake. What is read here is the leaf
that it passes on, by the rules that Envoy leaves to others: one identity, not a signing certificate, still
valid now though the connection may be old.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity import claims as read
from identity import jose, signature
from identity.claims import ClaimError, Claims
from identity.errors import IdentityError, KeysUnavailable
from identity.jose import Jws
from identity.jwk import KeySource
from identity.principal import SpiffeId, SpiffeIdError
from identity.tokens import LEEWAY

JWT_SVID_LIFETIME = 3600
"""Seconds that a JWT-SVID may still live."""
JWT_SVID_ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "ES384"})
MAX_CERTIFICATE_BYTES = 32 * 1024
"""As Envoy passes it, percent-encoded."""

_JWT_SVID_HEADERS = frozenset({"alg", "kid", "typ"})
_JWT_SVID_TYPES = frozenset({None, "JWT", "JOSE"})

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n?")
_PERCENT_ENCODED = re.compile(r"(?:[A-Za-z0-9._~+/=-]|%[0-9A-Fa-f]{2})*")

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Svid:
    """A verified workload identity, and until when it holds, in seconds since the epoch."""

    spiffe_id: SpiffeId
    expires: float


def workload_from_certificate(pem_url_encoded: str, trust_domains: AbstractSet[str], now: float) -> SpiffeId:
    """The workload whose leaf certificate Envoy passes in `attributes.source.certificate`.

    Raises:
        IdentityError: `svid_malformed`, `svid_ambiguous`, `svid_untrusted` or `svid_expired`.

    """
    return x509_svid(pem_url_encoded, trust_domains, now).spiffe_id


def x509_svid(pem_url_encoded: str, trust_domains: AbstractSet[str], now: float) -> Svid:
    """As `workload_from_certificate`, with the certificate's end."""
    certificate = _certificate(pem_url_encoded)
    try:
        _check_leaf(certificate)
        spiffe_id = _spiffe_id(certificate)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        if isinstance(error, SpiffeIdError):
            raise _malformed(str(error)) from None
        raise _malformed("the certificate's extensions can't be read") from None
    if spiffe_id.trust_domain not in trust_domains:
        raise IdentityError("svid_untrusted", "the trust domain is not one that policy trusts")
    expires = certificate.not_valid_after_utc.timestamp()
    if not certificate.not_valid_before_utc.timestamp() - LEEWAY <= now <= expires:
        raise IdentityError("svid_expired", "the certificate is not valid now")
    return Svid(spiffe_id, expires)


class JwtSvidVerifier:
    """Verifies JWT-SVIDs, each by the bundle of the trust domain that its subject names."""

    def __init__(self, bundles: Mapping[str, KeySource]) -> None:
        """Trust `bundles`, by trust domain."""
        self._bundles = dict(bundles)

    def keys_of(self, jws: Jws) -> KeySource | None:
        """Where the keys for a token's trust domain come from."""
        try:
            return self._bundles.get(_subject(jws.claims).trust_domain)
        except IdentityError:
            return None

    def verify(self, token: str, audience: AbstractSet[str], now: float) -> Svid:
        """Verify a JWT-SVID made for one of `audience`.

        Raises:
            IdentityError: `svid_*`; `token_malformed` before it is known to be one; `keys_unavailable`.

        """
        return self.verify_jws(jose.parse(token), audience, now)

    def verify_jws(self, jws: Jws, audience: AbstractSet[str], now: float) -> Svid:
        """Verify a JWT-SVID that was parsed already."""
        if not jws.header.keys() <= _JWT_SVID_HEADERS or jws.typ not in _JWT_SVID_TYPES:
            raise _malformed("the header has more than alg, kid and a typ of JWT or JOSE")
        if jws.alg not in JWT_SVID_ALGORITHMS:
            raise _malformed("the algorithm is not one that a JWT-SVID may have")
        if jws.kid is None:
            raise _malformed("the header has no kid")
        spiffe_id = _subject(jws.claims)
        self._check_signature(jws, spiffe_id.trust_domain)
        try:
            expires = _check_times(jws.claims, now)
            audiences = read.audiences(jws.claims)
        except ClaimError as error:
            raise _malformed(str(error)) from None
        if audiences.isdisjoint(audience):
            raise IdentityError("svid_audience", "aud does not hold the resource called")
        return Svid(spiffe_id, expires)

    def _check_signature(self, jws: Jws, trust_domain: str) -> None:
        source = self._bundles.get(trust_domain)
        if source is None:
            raise IdentityError("svid_untrusted", "the trust domain is not one that policy trusts")
        keys = source.current()
        if keys is None:
            raise KeysUnavailable("no JWT bundle of the trust domain yet")
        try:
            signature.verify(jws, keys, JWT_SVID_ALGORITHMS)
        except IdentityError as error:
            if error.code == "token_key_unknown":
                source.wanted(jws.kid)
            raise IdentityError("svid_untrusted", error.detail) from None


def _malformed(why: str) -> IdentityError:
    return IdentityError("svid_malformed", why)


def _certificate(pem_url_encoded: str) -> x509.Certificate:
    if len(pem_url_encoded) > MAX_CERTIFICATE_BYTES:
        raise _malformed("the certificate is too long")
    if _PERCENT_ENCODED.fullmatch(pem_url_encoded) is None:
        raise _malformed("the certificate is not percent-encoded")
    pem = unquote_to_bytes(pem_url_encoded)
    if _PEM.fullmatch(pem) is None:
        raise _malformed("not exactly one certificate in PEM")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise _malformed("the certificate can't be read") from None


def _check_leaf(certificate: x509.Certificate) -> None:
    """X509-SVID 4 and 5.2: what tells a workload's certificate from one that signs others."""
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise _malformed("a certificate authority is no workload")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise _malformed("the key usage is not that of a workload")
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    if extended is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
        raise _malformed("the extended key usage is not for clients")


def _spiffe_id(certificate: x509.Certificate) -> SpiffeId:
    names = _extension(certificate, x509.SubjectAlternativeName)
    uris = [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)
    if not uris:
        raise _malformed("the certificate has no URI among its names")
    if len(uris) > 1:
        # Envoy's principal is the first URI while its RBAC matches any: two readings, so neither.
        raise IdentityError("svid_ambiguous", "the certificate has more than one URI among its names")
    return _workload(uris[0])


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _workload(text: str) -> SpiffeId:
    spiffe_id = SpiffeId.parse(text)
    if not spiffe_id.path:
        raise SpiffeIdError("names a whole trust domain, no workload")
    return spiffe_id


def _subject(claims: Claims) -> SpiffeId:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise _malformed("sub is absent or not a string")
    try:
        return _workload(subject)
    except SpiffeIdError as error:
        raise _malformed(f"sub: {error}") from None


def _check_times(claims: Claims, now: float) -> float:
    expires = read.required_time(claims, "exp")
    not_before = max(read.time(claims, "nbf") or 0, read.time(claims, "iat") or 0)
    if now >= expires + LEEWAY:
        raise IdentityError("svid_expired", "exp is past")
    if now + LEEWAY < not_before:
        raise IdentityError("svid_expired", "iat or nbf is in the future")
    if expires - now > JWT_SVID_LIFETIME + LEEWAY:
        raise _malformed(f"exp is more than {JWT_SVID_LIFETIME} seconds away")
    return expires
