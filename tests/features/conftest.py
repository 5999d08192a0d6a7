"""Stores and data that the tests of `features` share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.redis_server import redis_server

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
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture
def counts() -> Counter[tuple[str, str]]:
    """What a store counted, by view and reason."""
    return Counter()
