"""Stores and data that the tests of `features` share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.redis_server import redis_server


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
def counts() -> Counter[tuple[str, str]]:
    """What a store counted, by view and reason."""
    return Counter()
