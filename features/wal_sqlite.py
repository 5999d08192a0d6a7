"""Feast's SQLite online store with a write-ahead log: three processes share it, and readers never wait for writers.

Feast's own connection uses the rollback journal (a reader waits while a writer commits) and syncs each commit to the
disk. Live features are rebuilt from Kafka, so a commit need not survive a power cut: `synchronous=NORMAL`.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, Literal

from features.feast_guard import import_feast

_sqlite: Any = import_feast("feast.infra.online_stores.sqlite")
_Base: Any = _sqlite.SqliteOnlineStore
_BaseConfig: Any = _sqlite.SqliteOnlineStoreConfig

TYPE = "features.wal_sqlite.WalSqliteOnlineStore"
"""How the store is named in Feast's configuration (Feast wants the class name to end like its own)."""
BUSY_MS = 5_000
"""How long a writer waits for the other writer."""


class WalSqliteOnlineStoreConfig(_BaseConfig):  # type: ignore[misc]
    """The same keys as Feast's SQLite store; Feast finds this class by its name."""

    type: Literal["features.wal_sqlite.WalSqliteOnlineStore"] = "features.wal_sqlite.WalSqliteOnlineStore"


class WalSqliteOnlineStore(_Base):  # type: ignore[misc]
    """One connection per thread, each with the write-ahead log."""

    def __init__(self) -> None:
        super().__init__()
        self._per_thread = threading.local()

    def _get_conn(self, config: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._per_thread, "connection", None)
        if connection is None:
            connection = _sqlite._initialize_conn(self._get_db_path(config))
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._per_thread.connection = connection
        return connection
