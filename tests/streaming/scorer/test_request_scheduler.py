"""RequestScheduler on the event loop: a small request is answered between the slices of a large one."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from streaming.scorer.request_scheduler import RequestScheduler
from streaming.scorer.schema import RequestRefused


def _work(done: list[str], name: str, slices: int) -> Generator[None, None, str]:
    """Scores in `slices` slices, with a pause before each if there are several, as the core does."""
    for number in range(slices):
        if slices > 1:
            yield
        done.append(f"{name}{number}")
    return name


async def _until(done: list[str], slices: int) -> None:
    for _ in range(10_000):
        if len(done) >= slices:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"no {slices} slices were scored")


async def test_a_small_request_among_eight_large_ones_waits_for_at_most_one_slice() -> None:
    scheduler, done = RequestScheduler(100_000), list[str]()
    large = [asyncio.create_task(scheduler.run(_work(done, f"large-{n}-", 8), 2_000)) for n in range(8)]
    await _until(done, 3)
    before = len(done)
    assert await scheduler.run(_work(done, "small", 1), 20) == "small"
    assert done.index("small0") - before <= 1
    assert await asyncio.gather(*large) == [f"large-{n}-" for n in range(8)]


async def test_large_requests_run_one_after_the_other() -> None:
    scheduler, done = RequestScheduler(100_000), list[str]()
    await asyncio.gather(*(scheduler.run(_work(done, name, 3), 700) for name in "abc"))
    assert done == [f"{name}{number}" for name in "abc" for number in range(3)]


async def test_a_small_request_never_waits_for_the_lock_of_the_large() -> None:
    scheduler, done = RequestScheduler(100_000), list[str]()
    large = asyncio.create_task(scheduler.run(_work(done, "large", 50), 2_000))
    await _until(done, 1)
    for number in range(20):
        assert await scheduler.run(_work(done, f"small-{number}-", 1), 1)
    assert not large.done()
    await large


async def test_large_requests_beyond_the_queue_limit_are_asked_to_retry() -> None:
    scheduler, done = RequestScheduler(3_000), list[str]()
    waiting = [asyncio.create_task(scheduler.run(_work(done, name, 4), 1_500)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(RequestRefused, match="3000 candidates") as refused:
        await scheduler.run(_work(done, "c", 4), 1_500)
    assert (refused.value.problem.error, refused.value.status) == ("busy", 503)
    await asyncio.gather(*waiting)
    assert await scheduler.run(_work(done, "c", 4), 1_500) == "c"


async def test_one_request_larger_than_the_limit_is_scored_when_the_queue_is_empty() -> None:
    assert await RequestScheduler(10).run(_work([], "large", 4), 1_500) == "large"


async def test_a_cancelled_large_request_lets_the_next_one_run() -> None:
    scheduler, done = RequestScheduler(3_000), list[str]()
    first = asyncio.create_task(scheduler.run(_work(done, "a", 1_000), 1_500))
    second = asyncio.create_task(scheduler.run(_work(done, "b", 3), 1_500))
    await _until(done, 1)
    first.cancel()
    assert await second == "b"
    assert await scheduler.run(_work(done, "c", 3), 3_000) == "c"


async def test_the_reason_for_a_refusal_is_returned_at_once() -> None:
    def refused() -> Generator[None, None, str]:
        raise RequestRefused("too_many_candidates", "too many")
        yield

    scheduler, done = RequestScheduler(100), list[str]()
    waiting = asyncio.create_task(scheduler.run(_work(done, "a", 50), 90))
    await asyncio.sleep(0)
    with pytest.raises(RequestRefused, match="too many"):
        await scheduler.run(refused(), 10_000)
    await waiting
