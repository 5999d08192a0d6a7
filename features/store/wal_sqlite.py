"""Feast's SQLite online store with a write-ahead log: three processes share it, and readers never wait for a writer.

The choice is docs/decisions/0023.

Feast's own connection uses the rollback journal (a reader waits while a writer commits) and syncs each commit to the
disk. Live features are rebuilt from Kafka, so a commit need not survive a power cut: `synchronous=NORMAL`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from features.store.feast_guard import import_feast

_sqlite: Any = import_feast("feast.infra.online_stores.sqlite")
_Base: Any = _sqlite.SqliteOnlineStore
_BaseConfig: Any = _sqlite.SqliteOnlineStoreConfig

TYPE = "features.store.wal_sqlite.WalSqliteOnlineStore"
"""The store's type in Feast's configuration. Feast wants the class name to end like its own store's."""
BUSY_MS = 5_000
"""Milliseconds for which a writer waits for the other writer."""
_KEYS_KEPT = 100_000
_UPSERT = (
    "INSERT INTO {table} (entity_key, feature_name, value, value_text, event_ts) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, value_text = excluded.value_text, "
    "event_ts = excluded.event_ts"
)


class WalSqliteOnlineStoreConfig(_BaseConfig):  # type: ignore[misc]
    """The same keys as Feast's SQLite store. Feast finds this class by its name."""

    type: Literal["features.store.wal_sqlite.WalSqliteOnlineStore"] = "features.store.wal_sqlite.WalSqliteOnlineStore"


class WalSqliteOnlineStore(_Base):  # type: ignore[misc]
    """An SQLite store with one connection per thread, each using the write-ahead log."""

    def __init__(self) -> None:
        super().__init__()
        self._per_thread = threading.local()
        self._key_bytes: dict[tuple[str, str], bytes] = {}

    def _get_conn(self, config: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._per_thread, "connection", None)
        if connection is None:
            connection = _sqlite._initialize_conn(self._get_db_path(config))
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._per_thread.connection = connection
        return connection

    def read_values(self, config: Any, table: Any, entity_keys: Sequence[Any]) -> list[tuple[None, Any]]:
        """`online_read` without event times, which Driftline's rows carry themselves; the scorer calls it per request.

        Feast's own method spends half its time on serialising keys that were asked for before and on parsing times.
        """
        keys = [self._serialised(key, config.entity_key_serialization_version) for key in entity_keys]
        marks = ",".join("?" * len(keys))
        stored: dict[bytes, dict[str, Any]] = {}
        rows = self._get_conn(config).execute(
            f"SELECT entity_key, feature_name, value FROM {self._table(config, table)} WHERE entity_key IN ({marks})",
            keys,
        )
        for key, feature, value in rows:
            stored.setdefault(key, {})[feature] = _sqlite.ValueProto.FromString(value)
        return [(None, stored.get(key)) for key in keys]

    def write_values(self, config: Any, table: Any, data: Sequence[tuple[Any, dict[str, Any], datetime, None]]) -> None:
        """`online_write_batch` as one statement over all rows in one transaction; the processor calls it often."""
        version = config.entity_key_serialization_version
        stored = [
            (
                self._serialised(key, version),
                feature,
                value.SerializeToString(),
                _sqlite.extract_text_and_num(value, False)[0],
                _sqlite.to_naive_utc(stamp),
            )
            for key, values, stamp, _ in data
            for feature, value in values.items()
        ]
        connection = self._get_conn(config)
        with connection:
            connection.executemany(_UPSERT.format(table=self._table(config, table)), stored)

    def delete_values(self, config: Any, table: Any, entity_keys: Sequence[Any]) -> None:
        """Deletes rows by key, in one transaction."""
        keys = [(self._serialised(key, config.entity_key_serialization_version),) for key in entity_keys]
        connection = self._get_conn(config)
        with connection:
            connection.executemany(f"DELETE FROM {self._table(config, table)} WHERE entity_key = ?", keys)

    def _table(self, config: Any, table: Any) -> str:
        versioned = config.registry.enable_online_feature_view_versioning
        name: str = _sqlite._quote_id(_sqlite._table_id(config.project, table, versioned))
        return name

    def _serialised(self, key: Any, version: int) -> bytes:
        """The key as Feast stores it, remembered because the same keys come again and again."""
        name = (key.join_keys[0], key.entity_values[0].string_val)
        known = self._key_bytes.get(name)
        if known is None:
            # Cleared as a whole: that bounds it cheaply, and frequent keys are soon in it again.
            if len(self._key_bytes) >= _KEYS_KEPT:
                self._key_bytes.clear()
            known = self._key_bytes[name] = _sqlite.serialize_entity_key(key, entity_key_serialization_version=version)
        return known
