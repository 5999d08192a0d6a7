"""A small cache with a time to live."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """Values by key with a time to live, at most `limit` of them; the longest unwritten goes first."""

    def __init__(self, limit: int, ttl_s: float, now: Callable[[], float]) -> None:
        self._limit, self._ttl_s, self._now = limit, ttl_s, now
        self._entries: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> T | None:
        """The value, or None if there is none or its time is over."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and self._now() < entry[0] else None

    def put(self, key: str, value: T) -> None:
        """Keeps a value; 0 seconds to live keep nothing."""
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._now() + self._ttl_s, value)
            while len(self._entries) > self._limit:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._entries.clear()
