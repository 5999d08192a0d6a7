"""Deletes rows of one view from Feast's Redis store, which itself can only drop whole entities or whole views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features.store.feast_guard import import_feast


def delete_values(store: Any, config: Any, table: Any, entity_keys: Sequence[Any]) -> None:
    """Deletes the rows of view `table` under `entity_keys`, in one round trip.

    Other views of the same entity are stored in the same hash, so fields are deleted; Redis drops an empty hash itself.
    """
    helpers = import_feast("feast.infra.online_stores.helpers")
    view = import_feast("feast.infra.online_stores.redis")._versioned_fv_name(table, config)
    fields = [helpers._mmh3(f"{view}:{feature.name}") for feature in table.features]
    version = config.entity_key_serialization_version
    with store._get_client(config.online_store).pipeline(transaction=False) as pipe:
        for key in entity_keys:
            name = helpers._redis_key(config.project, key, entity_key_serialization_version=version)
            pipe.hdel(name, f"_ts:{view}", *fields)
        pipe.execute()
