"""Stores and data that the tests of `features` share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.redis_server import redis_server

if TYPE_CHECKING:
    from features.text import TextEncoder
    from tests.features.represent_parts import Parts

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


@pytest.fixture
def parts(tmp_path: Path, counts: Counts, text_encoder: TextEncoder) -> Parts:
    """A store with a user and items, and what represents requests from it."""
    from tests.features.represent_parts import make_parts

    return make_parts(tmp_path, counts, text_encoder)
