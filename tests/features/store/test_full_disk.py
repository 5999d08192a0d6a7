"""The feature store on a full disk: writes are refused with a remedy, reads continue, and free space is used again."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis

from features.config import FeatureConfig
from features.live.layout import LiveRow
from features.store.feature_store import FeatureStore
from features.store.online import StoreUnavailableError
from tests.redis_server import redis_process


def rows(number: float, count: int = 200) -> list[LiveRow]:
    return [LiveRow("item", f"i{n}", number, np.full(64, number, dtype=np.float32)) for n in range(count)]


def stored(store: FeatureStore) -> set[float]:
    """The numbers found in the store: more than one would be a partly written batch."""
    read = store.read_live("item", [row.key for row in rows(0.0)], now=0.0)
    return {-1.0 if row is None else float(row.values[0]) for row in read}


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow, which is what a full disk is to the one who writes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_sqlite_on_a_full_disk_refuses_writes_and_accepts_them_once_there_is_space(tmp_path: Path) -> None:
    store = FeatureStore(FeatureConfig(), tmp_path)
    store.apply()
    store.push_live(rows(1.0))
    with no_room():
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=r"online\.db cannot be used .*: free some space"):
                store.push_live(rows(2.0))
        assert stored(store) == {1.0}
    store.push_live(rows(2.0))
    assert stored(store) == {2.0}
    assert stored(FeatureStore(FeatureConfig(), tmp_path)) == {2.0}


@pytest.mark.redis
def test_redis_on_a_full_disk_is_reported_with_a_remedy_and_accepts_rows_once_there_is_space(tmp_path: Path) -> None:
    with redis_process(tmp_path) as (address, server):
        store = FeatureStore(FeatureConfig(online_store="redis", redis=address), tmp_path)
        store.apply()
        store.push_live(rows(1.0))
        client, process = redis.Redis(port=int(address.rpartition(":")[2])), psutil.Process(server.pid)
        client.config_set("save", "3600 1")
        before = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (1, before[1]))
        save(client, "err")
        with pytest.raises(StoreUnavailableError, match="cannot save its data, most often because its disk is full"):
            store.push_live(rows(2.0))
        assert stored(store) == {1.0}
        process.rlimit(resource.RLIMIT_FSIZE, before)
        save(client, "ok")
        store.push_live(rows(2.0))
        assert stored(store) == {2.0}


def save(client: redis.Redis, wanted: str) -> None:
    """Has the server save, and waits until that ended as `wanted`."""
    client.bgsave()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        info: Any = client.info("persistence")
        if not info["rdb_bgsave_in_progress"] and info["rdb_last_bgsave_status"] == wanted:
            return
        time.sleep(0.05)
    raise AssertionError(info)
