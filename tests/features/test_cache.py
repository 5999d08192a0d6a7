"""A cache of bounded age and bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.cache import Cache
from tests.features.conftest import Clock


def _nothing(_: int) -> int:
    return 0


def test_a_cache_evicts_by_age_and_by_bytes_the_oldest_write_first() -> None:
    clock = Clock()
    cache: Cache[int] = Cache(5_000, 10.0, clock, lambda _: 2_000)
    for number, key in enumerate("abc"):
        cache.put(key, number)
    assert [cache.get(key) for key in "abc"] == [None, 1, 2]
    assert cache.bytes <= 5_000
    clock.now = 10.0
    assert cache.get("b") is None


def test_a_value_larger_than_the_whole_cache_is_not_kept() -> None:
    cache: Cache[int] = Cache(1_000, 10.0, Clock(), lambda value: value)
    cache.put("small", 10)
    before = cache.bytes
    cache.put("large", 5_000)
    assert (cache.get("large"), cache.get("small"), cache.bytes) == (None, 10, before)
    cache.put("small", 5_000)
    assert (cache.get("small"), cache.bytes) == (None, 0), "an old value stands for one that was written over it"


@given(
    writes=st.lists(st.tuples(st.text(max_size=3), st.integers(0, 5_000), st.integers(0, 8)), max_size=60),
    limit=st.integers(0, 20_000),
)
def test_a_cache_never_holds_more_bytes_than_its_limit_and_counts_what_it_holds(
    writes: list[tuple[str, int, int]], limit: int
) -> None:
    clock = Clock()
    cache: Cache[int] = Cache(limit, 10.0, clock, lambda value: value)
    for key, size, pause in writes:
        clock.now += pause
        cache.put(key, size)
        assert 0 <= cache.bytes <= limit
        assert (cache.bytes == 0) == (len(cache) == 0)


def test_a_cache_frees_what_has_expired_while_it_is_used() -> None:
    clock = Clock()
    cache: Cache[int] = Cache(10_000_000, 10.0, clock, _nothing)
    for number in range(1_000):
        cache.put(f"old {number}", number)
    clock.now = 10.0
    for number in range(1_000):
        cache.put(f"new {number}", number)
    assert len(cache) == 1_000
    assert [cache.get("old 999"), cache.get("new 0")] == [None, 0]


@pytest.mark.parametrize("ttl_s", [0.0, 10.0])
@given(writes=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12)), max_size=40))
def test_a_cache_returns_the_last_value_until_it_expires(ttl_s: float, writes: list[tuple[str, int]]) -> None:
    clock = Clock()
    cache: Cache[int] = Cache(10_000_000, ttl_s, clock, _nothing)
    expected: dict[str, tuple[float, int]] = {}
    for number, (key, pause) in enumerate(writes):
        clock.now += pause
        cache.put(key, number)
        expected[key] = (clock.now + ttl_s, number)
        alive = {key: value for key, (expires, value) in expected.items() if clock.now < expires}
        assert {key: value for key in "abcdef" if (value := cache.get(key)) is not None} == alive
