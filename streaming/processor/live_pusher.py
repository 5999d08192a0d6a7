"""Pushes changed live rows to the feature store in micro-batches, only the newest row of each key.

A store that has lost its rows (a Redis without persistence that was restarted, a flushed database) is noticed before
the next push, because the row of all traffic, which every push of new examples writes, is missing. The owner of the
group then pushes all its rows again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from features.live.features import LiveRow
from features.live.layout import OVERALL
from streaming.monitoring import metrics

log = logging.getLogger(__name__)
_RETRY_S = 1.0
_SHARE = 0.2
"""Largest share of time spent pushing. Under load, newer rows replace waiting ones, so fewer are pushed."""


class LiveRowStore(Protocol):
    """The part of a feature store that the pusher uses; all methods may raise an error of the store."""

    def push_live(self, rows: Sequence[LiveRow], scope: str) -> object:
        """Writes rows of a scope, which is the group."""

    def holds_live(self, scope: str) -> bool:
        """Whether the row of all traffic of a scope is there."""


class LivePusher:
    """Pushes the rows of all groups of a process. A failed push is kept and retried, so no row is lost."""

    def __init__(self, store: LiveRowStore, interval_s: float) -> None:
        self._store = store
        self._interval_s = interval_s
        self._rows: dict[tuple[str, str, str], LiveRow] = {}
        self._beginning: set[str] = set()
        self._dropped: set[str] = set()
        """Groups that were given up since the present push began."""
        self._stored: set[str] = set()
        """Groups whose row of all traffic was pushed, so that it must be in the store."""
        self._lost: set[str] = set()
        """Groups whose rows the store has lost, until `take_lost`."""
        self._lock = threading.Lock()
        self._pushing = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._problem: str | None = None

    def add(self, scope: str, rows: Sequence[LiveRow]) -> None:
        """Adds changed rows of a group; a newer row replaces a waiting one of the same key."""
        with self._lock:
            self._rows.update({(scope, row.kind, row.key): row for row in rows})
        self._wake.set()

    def begin(self, scope: str, rows: Sequence[LiveRow]) -> None:
        """Adds all rows of a group that has just been loaded; `beginning` lists the group until they are pushed."""
        with self._lock:
            self._beginning.add(scope)
        self.add(scope, rows)

    def drop(self, scope: str) -> None:
        """Discards the rows of a group that is given up, after the present push, because a row has one writer at a time
        (decision 0024)."""
        with self._lock:
            self._dropped.add(scope)
            for scopes in (self._beginning, self._stored, self._lost):
                scopes.discard(scope)
            self._rows = _without(self._rows, {scope})
        with self._pushing:
            pass

    @property
    def beginning(self) -> list[str]:
        """Groups whose loaded rows are not in the feature store yet."""
        with self._lock:
            return sorted(self._beginning)

    def take_lost(self, scope: str) -> bool:
        """Whether the store has lost the rows of a group since the last call; the caller then adds all of them."""
        with self._lock:
            lost = scope in self._lost
            self._lost.discard(scope)
        return lost

    def check(self) -> str | None:
        """For `/healthz`: why the last push failed, or None."""
        return self._problem

    def run(self) -> None:
        """Pushes until `stop` is called; the thread's body."""
        while not self._ending.is_set():
            self._wake.wait()
            self._wake.clear()
            began = time.monotonic()
            pushed = self.flush()
            took = time.monotonic() - began
            pause = max(self._interval_s, took / _SHARE - took) if pushed else _RETRY_S
            self._ending.wait(pause)  # meanwhile newer rows may replace waiting ones, so this is no plain retry

    def flush(self) -> bool:
        """Pushes the waiting rows; returns False if that failed and they still wait."""
        with self._pushing:
            return self._flush()

    def _flush(self) -> bool:
        """Pushes all waiting rows. If the store fails, keeps those that no newer row replaces and returns False."""
        with self._lock:
            rows, self._rows = self._rows, {}
            beginning = set(self._beginning)
            self._dropped.clear()
        try:
            if rows:
                self._push_all(rows)
        except Exception as error:  # noqa: BLE001 - any failure of the store is logged, counted and retried
            metrics.features.FEATURE_PUSH_FAILED.inc()
            self._problem = f"pushing {len(rows)} rows of live features failed: {type(error).__name__}: {error}"
            log.error("%s; trying again in %.0f s", self._problem, _RETRY_S)
            with self._lock:
                self._rows = _without(rows, self._dropped) | self._rows
            self._wake.set()
            return False
        self._problem = None
        with self._lock:
            self._beginning -= beginning - self._dropped
        return True

    def _push_all(self, rows: Mapping[tuple[str, str, str], LiveRow]) -> None:
        """Pushes rows scope by scope; a scope whose group was given up meanwhile belongs to its next owner."""
        with metrics.features.FEATURE_PUSH_SECONDS.time():
            for scope in sorted({key[0] for key in rows}):
                if scope in self._dropped:
                    continue
                self._notice_loss(scope)
                self._store.push_live([row for key, row in rows.items() if key[0] == scope], scope)
                with self._lock:
                    if (scope, "domain", OVERALL) in rows and scope not in self._dropped:
                        self._stored.add(scope)

    def _notice_loss(self, scope: str) -> None:
        """Notes that the store no longer has the rows of a scope that were pushed completely before."""
        if scope not in self._stored or self._store.holds_live(scope):
            return
        metrics.features.FEATURE_ROWS_LOST.labels(group=scope).inc()
        log.error("the feature store has lost the live rows of group %s: all are pushed again", scope)
        with self._lock:
            self._stored.discard(scope)
            if scope not in self._dropped:
                self._lost.add(scope)

    def stop(self) -> None:
        """Makes `run` end soon; call `flush` afterwards for rows that still wait."""
        self._ending.set()
        self._wake.set()


def _without(
    rows: Mapping[tuple[str, str, str], LiveRow], scopes: Collection[str]
) -> dict[tuple[str, str, str], LiveRow]:
    return {key: row for key, row in rows.items() if key[0] not in scopes}
