"""Stores and data that the tests of `features` share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.redis_server import redis_server

Counts = Counter[tuple[str, str]]
"""Numbers by view and what was counted: `found`, a reason, or the name of a filled field."""


class Counting:
    """The `ReadCounts` of a test."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def found(self, view: str, number: int) -> None:
        self._counts[view, "found"] += number

    def filled(self, view: str, field: str, number: int) -> None:
        self._counts[view, field] += number

    def defaulted(self, view: str, reason: str, number: int) -> None:
        self._counts[view, reason] += number


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis server for the session."""
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture
def counts() -> Counts:
    """What a store counted."""
    return Counter()
