"""Memory of the join: what it holds is bounded, and counted as no less than it is."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest

from streaming.events import Tick
from streaming.events.request_ids import RequestIds
from tests.streaming.join.joined import CONFIG, Played, click, impression, play, read


def test_open_requests_use_bounded_bytes_and_the_oldest_is_evicted_first() -> None:
    config = CONFIG.model_copy(update={"max_bytes": 100_000})
    played = play([impression(f"r{i}", i / 100) for i in range(150)], config)
    assert played.join.open.bytes <= 100_000
    assert played.join.dropped["evicted"] == 150 - len(played.join.open) > 50
    assert played.join.state().open_offsets == list(range(2 * (150 - len(played.join.open)) + 1, 300, 2))


def test_an_impression_larger_than_the_memory_limit_evicts_nothing() -> None:
    config = CONFIG.model_copy(update={"max_bytes": 100_000})
    played = play([impression("r", 0), impression("large", 1, [f"i{k}" for k in range(2_000)]), Tick(12)], config)
    assert [closed.impression.request_id for closed in played.closed] == ["r"]
    assert played.join.dropped == {"evicted": 1}


def test_forged_ids_evict_no_request_use_little_memory_and_do_not_extend_the_re_read() -> None:
    played = Played()
    for now in range(5):
        played.feed(impression(f"r{now}", now), at=now)
    tracemalloc.start()
    for made_up in range(100_000):
        played.join.feed(played.offset + made_up, click(f"made-up-{made_up}", "x", 5), 5)
        played.join.feed(played.offset + made_up, click("one", f"item-{made_up}", 5), 5)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 2 * CONFIG.feedback_bytes
    assert len(played.join.open) == 5
    assert played.join.state().open_from == 0
    played.feed(read(100), at=100)
    played.feed(Tick(100), at=100)
    assert len(played.closed) == 5
    assert played.join.state().open_offsets == []


def test_five_thousand_clicks_that_come_before_their_impressions_are_learned_as_clicks() -> None:
    ids = [RequestIds(["secret"]).new("main") for _ in range(5_000)]
    played = Played()
    for request in ids:
        played.feed(click(request, "a", 1))
    assert len(msgspec.msgpack.encode(played.join.state())) < 600_000, "a snapshot stays below a megabyte"
    for request in ids:
        played.feed(impression(request, 0))
    played.feed(read(100))
    played.feed(Tick(100))
    assert played.labels == [{"a": True, "b": False}] * 5_000
    assert played.join.dropped == {}


def test_feedback_on_unshown_items_uses_no_memory() -> None:
    played = play([impression("r", 0)])
    before = len(played.join.state().labelled)
    for item in range(1_000):
        played.feed(click("r", f"item-{item}", 1))
    assert len(played.join.state().labelled) == before
    assert played.join.dropped["unshown_item"] == 1_000


@pytest.mark.parametrize("items", [1, 10, 200])
def test_the_counted_memory_of_open_requests_is_an_upper_bound(items: int) -> None:
    names = [f"item-{k}" for k in range(items)]
    tracemalloc.start()
    played = play([impression(f"request-{k}", 1.0, [*map("".join, zip(names))]) for k in range(300)])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(played.join.open) == 300
    assert used <= played.join.open.bytes
