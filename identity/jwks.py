"""An issuer's keys, kept fresh in the background: no request ever waits for a fetch, no start-up either.

One cache and one thread for each source, so that an outage of one issuer touches no other. A set is parsed
whole, then swapped in; whatever fails leaves the last good one in force, for a day.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from identity.errors import KeyFileError
from identity.jwk import JwkError, JwkSet
from identity.principal import Issuer

INTERVAL = 300.0
"""Seconds between fetches while all is well, less up to a tenth, so that replicas don't march in step."""
FILE_INTERVAL = 1.0
"""The same for a local file, where reading costs nothing."""
STALE_FOR = 86_400.0
"""Seconds for which keys stay in force when none newer can be had."""
COOL_DOWN = 30.0
"""Seconds within which unknown kids cause one fetch at most: tokens are free to make up."""
FIRST_RETRY, LAST_RETRY = 0.5, 30.0
"""Seconds to wait after a failure, doubled each time from the first to the last."""


class FetchError(Exception):
    """A source gave no answer, or one of the wrong kind. The message holds nothing of it."""


Fetch = Callable[[], bytes]
Parse = Callable[[bytes], JwkSet]


@dataclass(frozen=True, slots=True)
class JwksStatus:
    """How a cache does, for metrics and `doctor`."""

    name: str
    attempts: int
    """Fetches so far, failed ones too."""
    failures: int
    refreshes: int
    """Fetches whose set is or was in force."""
    last_error: str | None
    """Of the last attempt; None where it went well."""
    age: float | None
    """Seconds since the set in force was last confirmed; None where there never was one."""
    generation: str | None
    keys: int
    skipped: tuple[str, ...]


class JwksCache:
    """The keys of one source, a `KeySource`. Thread-safe; `current` takes no lock."""

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        *,
        parse: Parse = JwkSet.parse,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow what `fetch` returns. `clock` is monotonic, in seconds. Nothing happens before `start`."""
        self.name = name
        self._fetch = fetch
        self._parse = parse
        self._interval = interval
        self._clock = clock
        # One reference, replaced whole: a reader sees the old pair or the new one.
        self._good: tuple[JwkSet, float] | None = None
        self._changed = threading.Condition()
        self._attempts = self._failures = self._refreshes = self._failures_in_row = 0
        self._last_error: str | None = None
        self._asked_at: float | None = None
        self._asked = self._closed = False
        self._thread: threading.Thread | None = None

    def current(self) -> JwkSet | None:
        """The keys in force; None where there never were any, or the last are over a day old."""
        good = self._good
        if good is None or self._clock() - good[1] > STALE_FOR:
            return None
        return good[0]

    def wanted(self, kid: str | None) -> None:  # noqa: ARG002  which one makes no difference
        """Fetch soon, unless an unknown kid caused that less than 30 s ago."""
        now = self._clock()
        with self._changed:
            if self._asked_at is None or now - self._asked_at >= COOL_DOWN:
                self._asked_at = now
                self._asked = True
                self._changed.notify_all()

    def refresh(self) -> bool:
        """Fetch once, in this thread; whether it gave a set that is now in force."""
        try:
            keys = self._parse(self._fetch())
        except (FetchError, KeyFileError, JwkError) as error:
            self._note(None, str(error))
            return False
        except Exception as error:  # the boundary of this thread: dead, it would serve old keys unnoticed
            self._note(None, f"the fetch failed ({type(error).__name__})")
            return False
        self._note(keys, None)
        return True

    def start(self) -> None:
        """Fetch at once and from then on, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=f"jwks-{self.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop. A fetch under way may go on for its two seconds; nobody waits for it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_attempts(self, count: int, timeout: float) -> bool:
        """Wait until `count` fetches have ended, well or badly; False where `timeout` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._attempts >= count, timeout)

    def wait_refreshed(self, count: int, timeout: float) -> bool:
        """Wait until `count` fetches have gone well; False where `timeout` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._refreshes >= count, timeout)

    def status(self) -> JwksStatus:
        """A consistent look at the counters."""
        with self._changed:
            keys, confirmed = self._good or (None, 0.0)
            return JwksStatus(
                name=self.name,
                attempts=self._attempts,
                failures=self._failures,
                refreshes=self._refreshes,
                last_error=self._last_error,
                age=None if keys is None else self._clock() - confirmed,
                generation=None if keys is None else keys.generation,
                keys=0 if keys is None else len(keys.keys),
                skipped=() if keys is None else keys.skipped,
            )

    def _note(self, keys: JwkSet | None, error: str | None) -> None:
        with self._changed:
            self._attempts += 1
            self._last_error = error
            if keys is None:
                self._failures += 1
                self._failures_in_row += 1
            else:
                self._refreshes += 1
                self._failures_in_row = 0
                self._good = (keys, self._clock())
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._closed:
            self.refresh()
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._closed, self._pause())
                self._asked = False

    def _pause(self) -> float:
        if self._failures_in_row:
            return min(LAST_RETRY, self._interval, FIRST_RETRY * 2.0 ** min(self._failures_in_row - 1, 10))
        return self._interval * random.uniform(0.9, 1.0)  # noqa: S311  jitter, not a secret


class JwksCaches:
    """The caches of all issuers, across changes of policy: an issuer that stays keeps its keys."""

    def __init__(self, open_source: Callable[[Issuer], JwksCache]) -> None:
        """Make a cache for an issuer that is new by `open_source`, which does no I/O."""
        self._open = open_source
        self._caches: dict[tuple[str, str | None, str | None], JwksCache] = {}

    def follow(self, issuers: Sequence[Issuer]) -> dict[str, JwksCache]:
        """The caches of `issuers` by name: started where new, stopped where no longer wanted."""
        wanted = {(i.name, i.jwks_uri, i.jwks_file): i for i in issuers}
        for key in self._caches.keys() - wanted.keys():
            self._caches.pop(key).close()
        for key, issuer in wanted.items():
            if key not in self._caches:
                self._caches[key] = self._open(issuer)
                self._caches[key].start()
        return {key[0]: cache for key, cache in self._caches.items()}

    def close(self) -> None:
        """Stop them all."""
        self.follow(())
