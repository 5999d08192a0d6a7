"""How much refusing stops the stream."""

from __future__ import annotations

import pytest

from streaming.ingest.refusals import RefusalWindow, TooManyRefusedError


def test_nothing_is_said_before_the_window_is_full() -> None:
    window = RefusalWindow(10, 0.5)
    for _ in range(9):
        window.note("not_json")
    with pytest.raises(TooManyRefusedError, match=r"10 of the last 10 .*'not_json'"):
        window.note("not_json")


def test_a_share_at_the_limit_is_allowed_and_one_more_is_not() -> None:
    window = RefusalWindow(10, 0.5)
    for n in range(100):
        window.note("bad_id" if n % 2 else None)
    with pytest.raises(TooManyRefusedError, match="6 of the last 10"):
        window.note("future")  # pushes an accepted one out


def test_refusals_that_left_the_window_count_no_more() -> None:
    window = RefusalWindow(10, 0.5)
    for _ in range(5):
        window.note("bad_id")
    for _ in range(10):
        window.note(None)
    for _ in range(5):
        window.note("bad_id")
