"""What a running service follows: the policy in force, its issuers' keys, the keys that sign assertions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from extauthz.basis import Basis
from extauthz.metrics import Metrics
from extauthz.service import CheckService
from identity.assertion import Minter
from identity.authenticate import Authenticator
from identity.errors import KeyFileError
from identity.fetch import open_bundle, open_issuer
from identity.jwks import JwksCache, JwksCaches
from identity.principal import Issuer
from identity.signing import SigningKeys
from identity.svid import JwtSvidVerifier
from identity.tokens import TokenVerifier
from pdp.deployment import Deployment
from pdp.model import Snapshot

KEYS_INTERVAL = 1.0
"""Seconds between looks at the file of signing keys."""

_logger = logging.getLogger(__name__)


class Follower:
    """Puts a new `Basis` in force when policy or the signing keys change. Two threads report to it."""

    def __init__(self, deployment: Deployment, keys: Path, service: CheckService, metrics: Metrics) -> None:
        """Read the signing keys.

        Raises:
            KeyFileError: they can't be used.

        """
        self._deployment = deployment
        self._keys = keys
        self._service = service
        self._metrics = metrics
        self._lock = threading.Lock()
        self._stamp = _stamp(keys)
        self._minter = Minter(SigningKeys.read(keys))
        self._authenticator: Authenticator | None = None
        self._trusted: tuple[object, ...] = ()
        self._caches = JwksCaches(lambda issuer: open_issuer(_override(deployment, issuer)))
        self._by_issuer: Mapping[str, JwksCache] = {}
        self._bundles = {
            domain: open_bundle(domain, bundle.jwt)
            for domain, bundle in deployment.trust_bundles.items()
            if bundle.jwt is not None
        }
        for cache in self._bundles.values():
            cache.start()

    def policy_changed(self, snapshot: Snapshot) -> None:
        """Stand on `snapshot`. Verified tokens stay remembered unless who may sign them changed.

        Raises:
            ValueError: an issuer's keys can't be fetched as policy and deployment say.

        """
        with self._lock:
            trusted = (snapshot.issuers, snapshot.trust_domains)
            if self._authenticator is None or trusted != self._trusted:
                self._by_issuer = self._caches.follow(snapshot.issuers)
                self._authenticator = Authenticator(
                    TokenVerifier(snapshot.issuers, self._by_issuer),
                    JwtSvidVerifier(self._bundles_of(snapshot)),
                    trust_domains=snapshot.trust_domains,
                )
                self._trusted = trusted
            self._stand_on(snapshot, self._authenticator)
        self._metrics.policy_in_force(snapshot.digest, time.time())
        _logger.info("policy %s is in force", snapshot.digest)

    def watch_keys(self, stop: threading.Event) -> None:
        """Follow the file of signing keys until `stop` is set."""
        while not stop.wait(KEYS_INTERVAL):
            if (stamp := _stamp(self._keys)) != self._stamp:
                self._stamp = stamp
                self._keys_changed()

    def key_ages(self) -> Mapping[str, float | None]:
        """Seconds since each issuer's keys were confirmed, by issuer; None where there never were any."""
        return {name: cache.status().age for name, cache in self._by_issuer.items()}

    def remembered_tokens(self) -> int:
        authenticator = self._authenticator
        return authenticator.remembered if authenticator is not None else 0

    def close(self) -> None:
        """Stop fetching keys."""
        self._caches.close()
        for cache in self._bundles.values():
            cache.close()

    def _keys_changed(self) -> None:
        try:
            minter = Minter(SigningKeys.read(self._keys))
        except KeyFileError as error:
            _logger.error("the signing keys stay as they were: %s", error)
            return
        with self._lock:
            self._minter = minter
            basis = self._service.basis
            if basis is not None:
                self._stand_on(basis.snapshot, basis.authenticator)
        _logger.info("new signing keys are in use")

    def _stand_on(self, snapshot: Snapshot, authenticator: Authenticator) -> None:
        self._service.stand_on(Basis(snapshot, authenticator, self._minter, self._deployment.resource_url))

    def _bundles_of(self, snapshot: Snapshot) -> Mapping[str, JwksCache]:
        """Only of domains that policy trusts: a bundle in the deployment widens nothing."""
        return {domain: keys for domain, keys in self._bundles.items() if domain in snapshot.trust_domains}


def _override(deployment: Deployment, issuer: Issuer) -> Issuer:
    """The issuer with its keys where the deployment says they are, if it does."""
    source = deployment.issuers.get(issuer.name)
    if source is None:
        return issuer
    file = str(source.jwks_file) if source.jwks_file is not None else None
    return replace(issuer, jwks_uri=source.jwks_uri, jwks_file=file)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
