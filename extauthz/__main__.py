"""`python -m extauthz`: reads the flags, builds everything, serves until SIGTERM."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from extauthz import diagnostics
from extauthz.basis import Basis
from extauthz.log import DecisionLog
from extauthz.metrics import Metrics, SourceCollector, Sources
from extauthz.scrape import ScrapeServer
from extauthz.server import Server, Tls
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
from pdp.deployment import Address, Deployment, load_deployment
from pdp.model import Snapshot
from pdp.problem import PolicyError, Problem
from pdp.store import PolicyStore

KEYS_INTERVAL = 1.0
"""Seconds between looks at the file of signing keys."""
LOG_SECONDS = 5.0
"""For how long the decision log may go on writing after the last check."""

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

_logger = logging.getLogger("extauthz")


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


def _refused(problems: Sequence[Problem]) -> None:
    for problem in problems:
        _logger.error("policy refused: %s", problem)


class Process:
    """Everything built and wired; `run` serves until a signal says to stop."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Build.

        Raises:
            OSError, ValueError, KeyFileError, PolicyError: something given can't be used.

        """
        deployment = load_deployment(options.deployment)
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        self._options = options
        self._stop = threading.Event()
        self._died = False
        self._log = DecisionLog(options.decision_log)
        self._service = CheckService(self._log, metrics)
        self._store = PolicyStore(options.policies, options.reviewers)
        self._follower = Follower(deployment, options.identity_keys, self._service, metrics)
        self._server = Server(self._service.check, options.listen, _tls(options))
        SourceCollector(self._sources(), registry)
        self._scrape = ScrapeServer(registry, self._ready, options.metrics)

    def run(self) -> None:
        """Announce, serve, and drain once told to stop.

        Raises:
            RuntimeError: after the drain, where a watcher died: better restarted than deciding by old policy.

        """
        self._load()
        self._server.start()
        threads = [
            threading.Thread(target=self._watch_policy, name="policy"),
            threading.Thread(target=self._watch_keys, name="signing-keys"),
        ]
        for thread in threads:
            thread.start()
        _announce(self._server.address, self._scrape.address)
        while signal.sigwait(_SIGNALS) == signal.SIGHUP:
            self._log.reopen()
        self._drain()
        for thread in threads:
            thread.join()
        if self._died:
            raise RuntimeError("a watcher died")

    def _watch_policy(self) -> None:
        with self._vital():
            self._store.watch(self._in_force, self._stop, on_error=_refused)

    def _watch_keys(self) -> None:
        with self._vital():
            self._follower.watch_keys(self._stop)

    @contextmanager
    def _vital(self) -> Iterator[None]:
        """What ends in here before its time ends the process; the traceback is the thread's to print."""
        try:
            yield
        finally:
            if not self._stop.is_set():
                self._died = True
                os.kill(os.getpid(), signal.SIGTERM)

    def _load(self) -> None:
        try:
            self._in_force(self._store.load())
        except PolicyError as error:
            # Not fatal: who mends the folder need not restart this. Until then nobody is allowed.
            _refused(error.problems)

    def _in_force(self, snapshot: Snapshot) -> None:
        try:
            self._follower.policy_changed(snapshot)
        except ValueError as error:
            # Policy names an issuer that this deployment can't serve. The last good policy stays.
            _logger.error("policy %s can't be put in force: %s", snapshot.digest, error)
            return
        self._server.ready(True)

    def _policy_ok(self) -> bool:
        basis = self._service.basis
        return basis is not None and basis.snapshot is self._store.snapshot and not self._store.problems

    def _ready(self) -> bool:
        return self._service.basis is not None and not self._stop.is_set()

    def _drain(self) -> None:
        self._stop.set()
        self._server.ready(False)
        # Long enough for a load balancer to see it, where the operator says how long that takes.
        threading.Event().wait(self._options.linger)
        self._server.drain(self._options.drain)
        if not self._log.close(LOG_SECONDS):
            _logger.error("the decision log was not written to its end")
        self._follower.close()
        self._scrape.close()

    def _sources(self) -> Sources:
        return Sources(
            log=self._log.status,
            policy_ok=self._policy_ok,
            key_ages=self._follower.key_ages,
            remembered_tokens=self._follower.remembered_tokens,
        )


def _announce(listen: Address, metrics: Address) -> None:
    ready = {"component": "extauthz", "listen": str(listen), "metrics": str(metrics)}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


def _tls(options: argparse.Namespace) -> Tls | None:
    if options.tls_certificate is None and options.tls_key is None and options.client_ca is None:
        return None
    if options.tls_certificate is None or options.tls_key is None:
        raise ValueError("--tls-certificate and --tls-key go together, and --client-ca needs both")
    return Tls(options.tls_certificate, options.tls_key, options.client_ca)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m extauthz",
        description="Answer Envoy's authorization checks by the reviewed policy in force.",
        epilog="For more cores run several, each on its own port, and list them in the deployment file.",
    )
    add = parser.add_argument
    add("--policies", type=Path, required=True, metavar="DIR", help="the policy folder")
    add("--reviewers", type=Path, required=True, metavar="FILE", help="who may approve what")
    add("--deployment", type=Path, required=True, metavar="FILE", help="where things run")
    add(
        "--identity-keys",
        type=Path,
        required=True,
        metavar="FILE",
        help="private JWK set that signs assertions",
    )
    add(
        "--listen",
        type=Address.parse,
        required=True,
        metavar="ADDR",
        help="host:port or unix:/path; port 0: any",
    )
    add(
        "--metrics",
        type=Address.parse,
        required=True,
        metavar="ADDR",
        help="host:port of /metrics and /healthz",
    )
    add(
        "--decision-log",
        default="-",
        metavar="FILE",
        help="JSON lines; -: standard output (SIGHUP reopens a file)",
    )
    add("--tls-certificate", type=Path, metavar="FILE", help="PEM chain; needed off loopback")
    add("--tls-key", type=Path, metavar="FILE", help="PEM key")
    add("--client-ca", type=Path, metavar="FILE", help="PEM; only clients of this authority may connect")
    add("--drain", type=float, default=5.0, metavar="SECONDS", help="to finish checks in work on SIGTERM")
    add(
        "--linger",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="to go on serving while already unhealthy",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 after a clean drain, 2 where something given can't be used."""
    options = _parser().parse_args(argv)
    diagnostics.to_stderr()
    # Waited for instead of handled: a handler could interrupt a thread that holds what it needs.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        Process(options).run()
    except (OSError, ValueError, KeyFileError, PolicyError) as error:
        sys.stderr.write(f"extauthz: {error}\n")
        return 2
    except RuntimeError as error:
        sys.stderr.write(f"extauthz: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
