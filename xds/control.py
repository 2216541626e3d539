"""From what changed to what is published: the control plane's own loop.

Inputs are offered, merged, built, checked and published; whatever can't be published leaves the last good
there and says so. Besides changes, time itself is an input: a review that lapses closes its route.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pdp.deployment import Deployment
from pdp.model import Snapshot
from xds.burst import Burst
from xds.consistency import InconsistentError, check
from xds.metrics import Metrics
from xds.publication import Publication
from xds.resources import Memo, build

_LONGEST_SLEEP = 60.0
"""Seconds. A clock that is set must not let a lapsed review pass unnoticed."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """A deployment, and the content of the files that it names."""

    deployment: Deployment
    material: Mapping[Path, bytes]


class Control:
    """Keeps one role's publication current. Of one event loop; `clock` is the time that policy goes by."""

    def __init__(
        self,
        publication: Publication,
        metrics: Metrics,
        *,
        burst: Burst | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publication = publication
        self._metrics = metrics
        self._burst = burst or Burst()
        self._clock = clock
        self._monotonic = monotonic
        self._memo = Memo()
        self._snapshot: Snapshot | None = None
        self._site: Site | None = None
        self._next_change = math.inf
        self._wake = asyncio.Event()
        self.ok = True
        """Whether the last build was fit to be published."""

    def offer_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._changed()

    def offer_site(self, site: Site) -> None:
        self._site = site
        self._changed()

    def _changed(self) -> None:
        self._burst.note(self._monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Publish whatever is due, until cancelled."""
        while True:
            self._wake.clear()
            pause = self.step()
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except TimeoutError:
                continue

    def step(self) -> float:
        """Publish if it is due; gives the seconds until it should be called again, unless woken earlier."""
        now = self._clock()
        if self._burst.take(self._monotonic()) or now >= self._next_change:
            self._publish(now)
        pauses = [_LONGEST_SLEEP, self._next_change - now]
        if self._burst.due is not None:
            pauses.append(self._burst.due - self._monotonic())
        return max(0.0, min(pauses))

    def _publish(self, now: float) -> None:
        snapshot, site = self._snapshot, self._site
        self._next_change = math.inf
        if snapshot is None or site is None:
            return
        self._next_change = snapshot.next_change(now)
        begun = self._monotonic()
        resources = build(snapshot, site.deployment, now, site.material, self._memo)
        try:
            check(resources, snapshot, site.deployment)
        except InconsistentError as error:
            self.ok = False
            for problem in error.problems:
                _logger.error("not published: %s", problem)
            return
        self.ok = True
        self._publication.publish(resources)
        self._metrics.published(resources, snapshot.digest, self._monotonic() - begun)
        _logger.info("published policy %s", snapshot.digest)
