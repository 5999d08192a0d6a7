"""Trying again: what is waited for, what ends the wait, and what is logged meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from streaming.retries import Retrier, StoppedError, Throttle


def failing(times: int, error: type[Exception] = ConnectionError) -> Callable[[], str]:
    """A step that fails so often and then gives `done`."""
    left = [times]

    def step() -> str:
        if left[0]:
            left[0] -= 1
            raise error("store is away")
        return "done"

    return step


def retrier(stopping: threading.Event | None = None) -> Retrier:
    return Retrier(stopping or threading.Event(), first_s=0.001, longest_s=0.004)


def test_a_step_is_retried_until_it_succeeds_and_its_result_is_returned() -> None:
    retries = retrier()
    assert retries.until_done("writing", failing(5)) == "done"
    assert retries.check() is None


def test_the_reason_for_waiting_is_logged_with_exponential_backoff_up_to_the_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    retries = Retrier(threading.Event(), first_s=0.1, longest_s=0.4)
    retries._sleep = lambda _: None
    with caplog.at_level(logging.WARNING):
        retries.until_done("writing profiles", failing(4))
    pauses = [record.getMessage().split("trying again in ")[1][:5] for record in caplog.records]
    assert pauses == ["0.1 s", "0.2 s", "0.4 s", "0.4 s"]
    assert all("writing profiles failing for" in record.getMessage() for record in caplog.records)


def test_a_stopping_process_leaves_the_pause_and_does_not_retry() -> None:
    stopping = threading.Event()
    tries = []

    def step() -> None:
        tries.append(1)
        stopping.set()
        raise ConnectionError("store is away")

    retries = Retrier(stopping, first_s=3_600.0, longest_s=3_600.0)
    with pytest.raises(StoppedError):
        retries.until_done("writing profiles", step)
    assert len(tries) == 1
    assert "writing profiles failing" in str(retries.check()) and "store is away" in str(retries.check())


def test_a_permanent_error_is_raised_at_once() -> None:
    with pytest.raises(ValueError, match="store is away"):
        retrier().until_done("writing", failing(1, ValueError), transient=(ConnectionError,))


def test_an_interrupt_is_not_retried() -> None:
    def step() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrier().until_done("writing", step)


def test_a_throttle_allows_the_first_call_unless_configured_to_wait() -> None:
    assert [Throttle(3_600.0).due(), Throttle(3_600.0, at_once=False).due()] == [True, False]
    often, seldom = Throttle(0.0), Throttle(3_600.0)
    assert [(often.due(), seldom.due()) for _ in range(3)] == [(True, True), (True, False), (True, False)]
