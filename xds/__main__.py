"""`python -m xds`: the composition root. Reads the flags, builds the objects, runs until a signal."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from pdp.deployment import Address, AddressError, load_deployment
from pdp.model import Snapshot
from pdp.problem import PolicyError, Problem
from pdp.store import PolicyStore
from xds.ads import AdsServer, AdsService, Tls
from xds.control import Control, Site
from xds.material import MaterialError, read_material, stamps
from xds.metrics import Metrics
from xds.publication import Publication
from xds.scrape import Scrape
from xds.secrets import files

ROLE = "mcp-gateway"
_SITE_INTERVAL = 0.5
_GRACE_SECONDS = 1.0

_logger = logging.getLogger("xds")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "component": "xds",
            "message": record.getMessage(),
        }
        if record.exc_info is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class SiteStore:
    """The deployment file and the files it names: the last good of both, read again when any changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self._watched: frozenset[Path] = frozenset()
        self.site: Site | None = None
        self.ok = False

    def load(self) -> Site:
        """Read everything.

        Raises:
            PolicyError, MaterialError: it can't be used; an earlier site stays.

        """
        self.ok = False
        self._seen = self._stamps()
        deployment = load_deployment(self._path)
        self._watched = files(deployment)
        self._seen = self._stamps()
        self.site = Site(deployment, read_material(deployment))
        self.ok = True
        return self.site

    def watch(self, on_change: Callable[[Site], None], stop: threading.Event) -> None:
        """Poll until `stop` is set; what can't be used is logged once and changes nothing."""
        while not stop.wait(_SITE_INTERVAL):
            if self._stamps() == self._seen:
                continue
            try:
                on_change(self.load())
            except (PolicyError, MaterialError) as error:
                _logger.error("the deployment stays as it was: %s", error)

    def _stamps(self) -> object:
        return stamps({self._path, *self._watched})


class _Process:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._policies = PolicyStore(options.policies, options.reviewers)
        self._sites = SiteStore(options.deployment)
        self._publication = Publication()
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry)
        self._stop = threading.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            OSError, ValueError: an address or a TLS file can't be used.

        """
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        control = Control(self._publication, self._metrics)
        self._metrics.reload_ok(lambda: self._current(control))
        self._load(control)
        service = AdsService({ROLE: self._publication}, self._metrics)
        server = AdsServer(service, self._options.listen, _tls(self._options))
        scrape = Scrape(self._registry, lambda: self._publication.current is not None)
        metrics = await scrape.start(self._options.metrics)
        await server.start()
        _announce(server.address, metrics)
        vital = [control.run(), *self._watchers(loop, control)]
        try:
            await _until(told, vital)
        finally:
            self._stop.set()
            await server.stop(_GRACE_SECONDS)
            await scrape.stop()

    def _current(self, control: Control) -> bool:
        return not self._policies.problems and self._sites.ok and control.ok

    def _load(self, control: Control) -> None:
        """The first load. What is wrong may be mended while we run: Envoys wait, or keep what they have."""
        try:
            control.offer_snapshot(self._policies.load())
        except PolicyError as error:
            _logger.error("no policy: %s", error)
        try:
            control.offer_site(self._sites.load())
        except (PolicyError, MaterialError) as error:
            _logger.error("no deployment: %s", error)

    def _watchers(
        self, loop: asyncio.AbstractEventLoop, control: Control
    ) -> Iterator[Coroutine[None, None, None]]:
        def policy(snapshot: Snapshot) -> None:
            loop.call_soon_threadsafe(control.offer_snapshot, snapshot)

        def problems(found: tuple[Problem, ...]) -> None:
            _logger.error("the policy stays as it was: %s", "; ".join(map(str, found)))

        def site(changed: Site) -> None:
            loop.call_soon_threadsafe(control.offer_site, changed)

        yield asyncio.to_thread(self._policies.watch, policy, self._stop, on_error=problems)
        yield asyncio.to_thread(self._sites.watch, site, self._stop)


async def _until(told: asyncio.Event, vital: Iterable[Coroutine[None, None, None]]) -> None:
    """Run `vital` until `told`; what of it ends earlier ends the process, with its own error."""
    tasks = [asyncio.create_task(one) for one in vital]
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait((waiting, *tasks), return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    for task in ended:
        task.result()


def _announce(listen: Address, metrics: Address) -> None:
    ready = {"component": "xds", "listen": str(listen), "metrics": str(metrics)}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


def _tls(options: argparse.Namespace) -> Tls | None:
    given = (options.tls_certificate, options.tls_key, options.client_ca)
    if given == (None, None, None):
        return None
    if None in given:
        raise ValueError("--tls-certificate, --tls-key and --client-ca go together")
    return Tls(*given)


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xds", description="Serve Envoy its configuration, made from the policy in force."
    )
    parser.add_argument("--policies", type=Path, metavar="DIR", required=True, help="the policy folder")
    parser.add_argument("--reviewers", type=Path, metavar="FILE", required=True, help="who may approve what")
    parser.add_argument("--deployment", type=Path, metavar="FILE", required=True, help="where things run")
    parser.add_argument(
        "--listen", type=_address, metavar="ADDR", required=True, help="host:port or unix:/path for Envoys"
    )
    parser.add_argument(
        "--metrics", type=_address, metavar="ADDR", required=True, help="host:port of /metrics and /healthz"
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM chain; needed off loopback")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM key")
    parser.add_argument(
        "--client-ca", type=Path, metavar="FILE", help="PEM; only Envoys with a certificate of it may connect"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; gives the exit code: 0 after a signal, 2 where something given can't be used."""
    options = _parser().parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        asyncio.run(_Process(options).run())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"xds: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
