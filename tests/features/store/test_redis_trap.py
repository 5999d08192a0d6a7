"""Why our Redis store does not compare stamps: Feast's default silently drops a row with an equal or older one."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from features.config import FeatureConfig
from features.store import codec
from features.store.feast_guard import import_feast
from features.store.feature_store import FeatureStore

pytestmark = pytest.mark.redis


@pytest.mark.parametrize(("skip_dedup", "kept"), [(False, 1.0), (True, 2.0)])
def test_feasts_default_drops_a_row_with_an_equal_timestamp(
    tmp_path: Path, redis_address: str, skip_dedup: bool, kept: float
) -> None:
    project = f"trap{skip_dedup}"
    store = FeatureStore(FeatureConfig(online_store="redis", redis=redis_address, project=project), tmp_path)
    online: Any = store.online.repo_config.online_store
    assert online.skip_dedup, "our own setting"
    view = store.online.repository.views["live_item"]
    settings = import_feast().RepoConfig(
        project=project,
        provider="local",
        registry=store.online.repo_config.registry,
        online_store={**online.model_dump(), "skip_dedup": skip_dedup},
        entity_key_serialization_version=3,
    )
    plain = import_feast("feast.infra.online_stores.redis").RedisOnlineStore()
    now = datetime.now(UTC)
    key = codec.entity_key("item_id", "i")
    for number in (1.0, 2.0):
        plain.online_write_batch(settings, view, [(key, {"updated_at": codec.number(number)}, now, None)], None)
    ((_, values),) = plain.online_read(settings, view, [key])
    assert codec.updated_at(values) == kept


def test_timestamps_of_a_writer_strictly_increase(tmp_path: Path) -> None:
    store = FeatureStore(FeatureConfig(), tmp_path)
    stamps = [store.online._stamp() for _ in range(1_000)]
    assert all(earlier < later for earlier, later in pairwise(stamps))
