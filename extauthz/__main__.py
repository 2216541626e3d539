"""`python -m extauthz`: reads the flags, builds everything, serves until SIGTERM."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from extauthz import diagnostics
from extauthz.follower import Follower
from extauthz.log import DecisionLog
from extauthz.metrics import Metrics, SourceCollector, Sources
from extauthz.scrape import ScrapeServer
from extauthz.server import Server, Tls
from extauthz.service import CheckService
from identity.errors import KeyFileError
from pdp.deployment import Address, load_deployment
from pdp.model import Snapshot
from pdp.problem import PolicyError, Problem
from pdp.store import PolicyStore

LOG_SECONDS = 5.0
"""For how long the decision log may go on writing after the last check."""

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

_logger = logging.getLogger("extauthz")


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
        if options.metrics.unix:
            raise ValueError("--metrics takes host:port")
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
        # A large snapshot lives long and holds no cycles: full collections need not walk through it.
        gc.freeze()
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
