"""A bounded memory of what was worked out lately, for values that are cheap to work out again."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """First in, first out. Thread-safe; looking up takes no lock, which an LRU order would need."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: dict[_Key, _Value] = {}
        self._lock = Lock()

    def get(self, key: _Key) -> _Value | None:
        return self._entries.get(key)

    def put(self, key: _Key, value: _Value) -> None:
        with self._lock:
            self._entries.pop(key, None)
            while len(self._entries) >= self._capacity:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = value

    def __len__(self) -> int:
        return len(self._entries)
