"""The pusher: newest row of a key only, groups apart, and nothing skipped when the store fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from features.live.features import LiveRow
from features.live.layout import OVERALL
from streaming.processor.live_pusher import LivePusher


def row(key: str, updated_at: float) -> LiveRow:
    return LiveRow("user", key, updated_at, np.ones(2, dtype=np.float32))


class Store:
    def __init__(self) -> None:
        self.fails = 0
        self.pushed: list[tuple[str, list[tuple[str, float]]]] = []
        self.lost: set[str] = set()
        """Scopes without their row of all traffic."""

    def holds_live(self, scope: str) -> bool:
        return scope not in self.lost

    def push_live(self, rows: Sequence[LiveRow], scope: str) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the store is away")
        self.pushed.append((scope, [(r.key, r.updated_at) for r in rows]))
        self.lost.discard(scope)


def test_only_the_newest_row_of_a_key_is_pushed() -> None:
    store = Store()
    pusher = LivePusher(store, 0)
    pusher.add("main", [row("a", 1), row("b", 1)])
    pusher.add("main", [row("a", 2)])
    assert pusher.flush()
    assert store.pushed == [("main", [("a", 2), ("b", 1)])]


def test_rows_of_one_user_in_two_groups_are_separate() -> None:
    store = Store()
    pusher = LivePusher(store, 0)
    pusher.add("one", [row("a", 1)])
    pusher.add("two", [row("a", 2)])
    pusher.flush()
    assert store.pushed == [("one", [("a", 1)]), ("two", [("a", 2)])]


def test_rows_of_a_failed_push_are_retried_and_do_not_replace_newer_ones() -> None:
    store = Store()
    store.fails = 1
    pusher = LivePusher(store, 0)
    pusher.add("main", [row("a", 1), row("b", 1)])
    assert not pusher.flush()
    assert "the store is away" in (pusher.check() or "")
    pusher.add("main", [row("a", 2)])
    assert pusher.flush()
    assert pusher.check() is None
    assert sorted(store.pushed[-1][1]) == [("a", 2), ("b", 1)]


def test_a_group_is_starting_until_its_first_rows_are_pushed() -> None:
    store = Store()
    store.fails = 1
    pusher = LivePusher(store, 0)
    pusher.begin("main", [row("a", 1)])
    pusher.begin("empty", [])
    assert pusher.beginning == ["empty", "main"]
    assert not pusher.flush()
    assert pusher.beginning == ["empty", "main"]
    assert pusher.flush()
    assert pusher.beginning == []
    assert store.pushed == [("main", [("a", 1)])]


def test_rows_of_a_released_group_are_no_longer_pushed() -> None:
    store = Store()
    store.fails = 1
    pusher = LivePusher(store, 0)
    pusher.begin("lost", [row("a", 1)])
    pusher.add("kept", [row("a", 1)])
    assert not pusher.flush()
    pusher.drop("lost")
    assert pusher.beginning == []
    assert pusher.flush()
    assert store.pushed == [("kept", [("a", 1)])]


def test_a_group_released_during_a_failed_push_does_not_push_its_rows_later() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow(Store):
        def push_live(self, rows: Sequence[LiveRow], scope: str) -> None:
            if not started.is_set():
                started.set()
                go_on.wait()
                raise ConnectionError("the store is away")
            super().push_live(rows, scope)

    store = Slow()
    pusher = LivePusher(store, 0)
    pusher.add("lost", [row("a", 1)])
    with ThreadPoolExecutor(2) as threads:
        pushing = threads.submit(pusher.flush)
        started.wait()
        dropping = threads.submit(pusher.drop, "lost")
        while "lost" not in pusher._dropped:
            time.sleep(0.001)
        assert not dropping.done()  # its next owner may write only when this push has ended
        go_on.set()
        assert not pushing.result()
        dropping.result()
    pusher.begin("lost", [row("b", 2)])
    assert pusher.flush()
    assert store.pushed == [("lost", [("b", 2)])] and pusher.beginning == []


def overall(updated_at: float) -> LiveRow:
    return LiveRow("domain", OVERALL, updated_at, np.ones(2, dtype=np.float32))


def test_a_store_that_lost_the_rows_of_a_group_is_noticed_once_before_the_next_push_hides_it() -> None:
    store = Store()
    pusher = LivePusher(store, 0)
    pusher.begin("main", [row("a", 1), overall(1)])
    pusher.begin("other", [overall(1)])
    assert pusher.flush()
    assert not pusher.take_lost("main")
    store.lost = {"main"}
    pusher.add("main", [row("b", 2), overall(2)])
    pusher.add("other", [overall(2)])
    assert pusher.flush()
    assert store.pushed[-2:] == [("main", [("b", 2), (OVERALL, 2)]), ("other", [(OVERALL, 2)])]
    assert pusher.take_lost("main") and not pusher.take_lost("other")
    assert not pusher.take_lost("main"), "the caller has been told"


def test_a_store_without_any_push_of_a_group_has_lost_nothing() -> None:
    store = Store()
    store.lost = {"main"}
    pusher = LivePusher(store, 0)
    pusher.begin("main", [row("a", 1), overall(1)])
    assert pusher.flush()
    assert not pusher.take_lost("main")


def test_a_loss_is_forgotten_with_the_group_that_was_given_up() -> None:
    store = Store()
    pusher = LivePusher(store, 0)
    pusher.begin("main", [overall(1)])
    assert pusher.flush()
    store.lost = {"main"}
    pusher.add("main", [overall(2)])
    assert pusher.flush()
    pusher.drop("main")
    assert not pusher.take_lost("main")
    store.lost = {"main"}
    pusher.begin("main", [overall(3)])
    assert pusher.flush()
    assert not pusher.take_lost("main"), "the new owner's first push finds what its predecessor left, or nothing"
