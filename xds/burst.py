"""Merging a burst of changes into one: wait until it is quiet, but never for long."""

from __future__ import annotations

QUIET_SECONDS = 0.1
MOST_SECONDS = 10.0


class Burst:
    """Says when the changes noted so far are due. Takes times, reads no clock."""

    def __init__(self, quiet: float = QUIET_SECONDS, most: float = MOST_SECONDS) -> None:
        self._quiet = quiet
        self._most = most
        self._first: float | None = None
        self._last = 0.0

    def note(self, now: float) -> None:
        """Something changed."""
        if self._first is None:
            self._first = now
        self._last = now

    @property
    def due(self) -> float | None:
        """When to act; None while there is nothing to act on."""
        if self._first is None:
            return None
        return min(self._last + self._quiet, self._first + self._most)

    def take(self, now: float) -> bool:
        """Whether to act now; then the burst is over."""
        if self.due is None or now < self.due:
            return False
        self._first = None
        return True
