"""What Redis refuses or drops: a policy that evicts is announced at the start, each refusal has its cure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from features.config import FeatureConfig
from features.live.layout import LiveRow
from features.store.feature_store import FeatureStore
from features.store.online import StoreUnavailableError
from tests.redis_server import redis_server

pytestmark = pytest.mark.redis
_ROWS = [LiveRow("item", f"i{n}", 1.0, np.ones(256, dtype=np.float32)) for n in range(8_000)]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[redis.Redis]:
    """A server of its own with less memory than the rows take."""
    with redis_server(tmp_path) as address, redis.Redis(port=int(address.split(":")[1])) as client:
        client.config_set("maxmemory", "6mb")
        yield client


def opened(client: redis.Redis, folder: Path, policy: str) -> FeatureStore:
    client.config_set("maxmemory-policy", policy)
    port = client.connection_pool.connection_kwargs["port"]
    store = FeatureStore(FeatureConfig(online_store="redis", redis=f"localhost:{port}"), folder)
    store.apply()
    return store


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def test_a_redis_that_evicts_rows_is_named_with_the_cure_at_every_start(
    small: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        store = opened(small, tmp_path / "run", "allkeys-lru")
        (warned,) = warnings(caplog)
        assert "has maxmemory-policy allkeys-lru" in warned
        assert warned.endswith("redis-cli CONFIG SET maxmemory-policy noeviction")
    store.push_live(_ROWS)
    read = store.read_live("item", [row.key for row in _ROWS], now=1.0)
    assert 0 < read.count(None) < len(_ROWS)


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_a_redis_that_evicts_no_row_gives_no_warning_and_refuses_writes_when_it_is_full(
    policy: str, small: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(small, tmp_path / "run", policy)
    assert warnings(caplog) == []
    with pytest.raises(StoreUnavailableError, match="its memory is full: give it more") as caught:
        store.push_live(_ROWS)
    assert "HSET" not in str(caught.value)


@pytest.mark.parametrize(
    ("order", "cure"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), "set DRIFTLINE_FEATURES__REDIS to the address of the primary"),
        (("ACL", "SETUSER", "default", "-hset"), "allow it to read and write all keys"),
        (("CONFIG", "SET", "requirepass", "secret"), "set DRIFTLINE_FEATURES__REDIS_PASSWORD to its password"),
    ],
)
def test_a_redis_that_refuses_writes_is_reported_with_the_cure_for_its_reason(
    order: tuple[str, ...], cure: str, small: redis.Redis, tmp_path: Path
) -> None:
    store = opened(small, tmp_path / "run", "noeviction")
    small.execute_command(*order)  # type: ignore[no-untyped-call]
    fresh = FeatureStore(store.config, tmp_path / "run")
    with pytest.raises(StoreUnavailableError, match=cure) as caught:
        fresh.push_live(_ROWS[:2])
    assert "start it" not in str(caught.value)


def test_a_redis_that_does_not_tell_its_policy_is_used(
    small: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small.execute_command("ACL", "SETUSER", "default", "-info")  # type: ignore[no-untyped-call]
    store = opened(small, tmp_path / "run", "noeviction")
    store.push_live(_ROWS[:2])
    assert warnings(caplog) == []
    assert store.read_live("item", ["i1"], now=1.0) != [None]
