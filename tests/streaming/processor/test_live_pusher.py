"""The pusher: newest row of a key only, groups apart, and nothing skipped when the store fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.live.features import LiveRow
from streaming.processor.live_pusher import LivePusher


def row(key: str, updated_at: float) -> LiveRow:
    return LiveRow("user", key, updated_at, np.ones(2, dtype=np.float32))


class Store:
    def __init__(self) -> None:
        self.fails = 0
        self.pushed: list[tuple[str, list[tuple[str, float]]]] = []

    def push(self, rows: Sequence[LiveRow], scope: str) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the store is away")
        self.pushed.append((scope, [(r.key, r.updated_at) for r in rows]))


def test_of_a_key_only_the_newest_row_is_pushed() -> None:
    store = Store()
    pusher = LivePusher(store.push, 0)
    pusher.add("main", [row("a", 1), row("b", 1)])
    pusher.add("main", [row("a", 2)])
    assert pusher.flush()
    assert store.pushed == [("main", [("a", 2), ("b", 1)])]


def test_groups_that_follow_the_same_user_are_kept_apart() -> None:
    store = Store()
    pusher = LivePusher(store.push, 0)
    pusher.add("one", [row("a", 1)])
    pusher.add("two", [row("a", 2)])
    pusher.flush()
    assert store.pushed == [("one", [("a", 1)]), ("two", [("a", 2)])]


def test_rows_of_a_failed_push_wait_and_do_not_replace_newer_ones() -> None:
    store = Store()
    store.fails = 1
    pusher = LivePusher(store.push, 0)
    pusher.add("main", [row("a", 1), row("b", 1)])
    assert not pusher.flush()
    assert "the store is away" in (pusher.check() or "")
    pusher.add("main", [row("a", 2)])
    assert pusher.flush()
    assert pusher.check() is None
    assert sorted(store.pushed[-1][1]) == [("a", 2), ("b", 1)]


def test_a_group_is_beginning_until_the_rows_it_began_with_are_pushed() -> None:
    store = Store()
    store.fails = 1
    pusher = LivePusher(store.push, 0)
    pusher.begin("main", [row("a", 1)])
    pusher.begin("empty", [])
    assert pusher.beginning == ["empty", "main"]
    assert not pusher.flush()
    assert pusher.beginning == ["empty", "main"]
    assert pusher.flush()
    assert pusher.beginning == []
    assert store.pushed == [("main", [("a", 1)])]
