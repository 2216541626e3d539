"""What is published now, and who is to hear when that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from xds.resource import ResourceSet


class Publication:
    """One role's resources. Of one event loop: publish and subscribe on it only."""

    def __init__(self) -> None:
        self.current: ResourceSet | None = None
        """None until something good was built: streams then wait, they are not told that nothing exists."""
        self._watchers: set[asyncio.Event] = set()

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    def publish(self, resources: ResourceSet) -> None:
        self.current = resources
        for event in self._watchers:
            event.set()

    @contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event that each `publish` sets; whoever waits for it clears it."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            yield event
        finally:
            self._watchers.discard(event)
