"""The online store: Feast's objects and configuration, its tables, and reading and writing the rows of any view.

Rows are read and written by the online store's own `online_write_batch` and `online_read`, which every Feast online
store implements. `push` and `get_online_features` go through pandas and Arrow and cost several times as much
(`benchmarks/feature_store.py`, docs/decisions/0022). The stored data are the same, and Feast's own calls can read them.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from features.config import FeatureConfig
from features.store import codec, redis_delete, wal_sqlite
from features.store.definitions import USER_PROFILE, build, join_key
from features.store.feast_guard import import_feast
from model.whole_files import write_whole

log = logging.getLogger(__name__)

_WRITE_CHUNK = 500
"""Rows per transaction, few enough that the other writer does not wait long (docs/decisions/0023)."""
_EVICTING = "allkeys-"
"""How the names of policies begin that evict rows; `volatile-` ones take keys with an expiry, which no row has."""
_REDIS_CURES: tuple[tuple[type[redis.RedisError], str], ...] = (
    (redis.OutOfMemoryError, "its memory is full: give it more (maxmemory), or take keys of others away"),
    (redis.ReadOnlyError, "it is a replica: set DRIFTLINE_FEATURES__REDIS to the address of the primary"),
    (redis.exceptions.NoPermissionError, "its user lacks a right: allow it to read and write all keys (ACL SETUSER)"),
    (redis.BusyLoadingError, "it is reading its data: wait until it has ended"),
    (redis.AuthenticationError, "set DRIFTLINE_FEATURES__REDIS_PASSWORD to its password"),
)
"""Cures by class, because the client removes the server's code (`OOM`, `READONLY`) from the message."""
_MICROSECOND = timedelta(microseconds=1)


class StoreUnavailableError(Exception):
    """The online store cannot be used; the message names the store and the cure."""


class OnlineStore:
    """Feast's online store of one run folder, SQLite or Redis. Safe to use from several threads."""

    def __init__(self, config: FeatureConfig, run_dir: Path) -> None:
        self._config = config
        self.folder = run_dir / "feast"
        self.repository = build(config, self.folder)
        self.repo_config = _repo_config(config, self.folder)
        helpers = import_feast("feast.infra.online_stores.helpers")
        self._store = helpers.get_online_store_from_config(self.repo_config.online_store)
        # The SQLite store with a write-ahead log has faster methods of its own.
        self._read_rows = getattr(self._store, "read_values", self._store.online_read)
        self._write_rows = getattr(
            self._store, "write_values", functools.partial(self._store.online_write_batch, progress=None)
        )
        self._delete_rows = getattr(
            self._store, "delete_values", functools.partial(redis_delete.delete_values, self._store)
        )
        self._newest_stamp = datetime.fromtimestamp(0, UTC)

    @property
    def applied(self) -> bool:
        """Whether this configuration's views have been applied in this run's folder."""
        made = self._config.online_store == "redis" or (self.folder / "online.db").is_file()
        return made and self._marker.is_file() and self._marker.read_text(encoding="utf-8") == self._definition()

    def apply(self) -> None:
        """Registers entities and views and makes the tables. Several processes may call it at once.

        Raises StoreUnavailableError.
        """
        if self.applied:
            self._warn_of_eviction()
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("w", encoding="utf-8") as lock, self._explained():
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.applied:
                    import_feast().FeatureStore(config=self.repo_config).apply(self.repository.objects)
                    self._ping()
                    write_whole(self._marker, self._definition())
        except OSError as error:
            raise StoreUnavailableError(
                f"the feature store cannot be made in {self.folder} ({error}): "
                "choose a DRIFTLINE_RUN_DIR that can be written"
            ) from error
        log.info("feature store: %s", self.describe())
        self._warn_of_eviction()

    def describe(self) -> str:
        """Which online store is used, and where."""
        if self._config.online_store == "redis":
            return f"Redis at {self._config.redis.split(',')[0]}"
        return f"SQLite in {self.folder / 'online.db'}"

    def write(self, view: str, rows: Iterable[tuple[str, codec.Values]]) -> None:
        """Replaces rows of a view, by key. Raises StoreUnavailableError."""
        column = join_key(self.repository.entity_of(view))
        encoded = [(codec.entity_key(column, key), values) for key, values in rows]
        for start in range(0, len(encoded), _WRITE_CHUNK):
            data = [(key, values, self._stamp(), None) for key, values in encoded[start : start + _WRITE_CHUNK]]
            with self._explained():
                self._write_rows(self.repo_config, self.repository.views[view], data)

    def delete(self, view: str, keys: Sequence[str]) -> None:
        """Deletes rows of a view; keys without a row are ignored. Raises StoreUnavailableError."""
        column = join_key(self.repository.entity_of(view))
        for start in range(0, len(keys), _WRITE_CHUNK):
            chunk = [codec.entity_key(column, key) for key in keys[start : start + _WRITE_CHUNK]]
            with self._explained():
                self._delete_rows(self.repo_config, self.repository.views[view], chunk)

    def read(self, view: str, keys: Sequence[str]) -> list[codec.Values | None]:
        """Rows of a view in the order of `keys`, None for a missing one. Raises StoreUnavailableError."""
        if not keys:
            return []
        column = join_key(self.repository.entity_of(view))
        entity_keys = [codec.entity_key(column, key) for key in keys]
        with self._explained():
            rows = self._read_rows(self.repo_config, self.repository.views[view], entity_keys)
        # Redis returns empty values for an unknown key; every stored row has a time (docs/decisions/0022).
        return [values if codec.has_time(values) else None for _, values in rows]

    def _stamp(self) -> datetime:
        """A strictly increasing time: with Feast's own settings, Redis drops a row that is not newer than the last."""
        self._newest_stamp = max(datetime.now(UTC), self._newest_stamp + _MICROSECOND)
        return self._newest_stamp

    @property
    def _marker(self) -> Path:
        return self.folder / "applied"

    def _definition(self) -> str:
        views = [f"{name}: {view.schema}" for name, view in sorted(self.repository.views.items())]
        parts = [self._config.project, self._config.online_store, self._config.redis, *views]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _ping(self) -> None:
        """Reads once, so that a missing online store is reported at the start and not at the first request."""
        self._store.online_read(
            self.repo_config, self.repository.views[USER_PROFILE], [codec.entity_key(join_key("user"), "")]
        )

    def _warn_of_eviction(self) -> None:
        """Logs a warning if Redis may evict rows: nobody writes a profile again, and the processor notices only the
        loss of all rows. A Redis that cannot be asked is passed over; reads and writes report an unreachable one."""
        if self._config.online_store != "redis":
            return
        try:
            policy = self._store._get_client(self.repo_config.online_store).info("memory").get("maxmemory_policy", "")
        except redis.RedisError as error:
            log.debug("%s does not tell its maxmemory-policy: %s", self.describe(), error)
            return
        if str(policy).startswith(_EVICTING):
            log.warning(
                "%s has maxmemory-policy %s, so it may evict profiles and live rows, and requests are scored without "
                "them; let it refuse writes, which is reported: redis-cli CONFIG SET maxmemory-policy noeviction",
                self.describe(),
                policy,
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailableError(self._explain_sqlite(str(error))) from error
        except redis.RedisError as error:
            raise StoreUnavailableError(self._explain_redis(error)) from error

    def _explain_redis(self, error: redis.RedisError) -> str:
        message = str(error).rsplit("of pipeline caused error: ", 1)[-1]  # before it the client repeats the whole row
        if "MISCONF" in message:  # it takes no writes that it could not save
            cure = "it cannot save its data, most often because its disk is full: free some space; its log says more"
        else:
            cures = (cure for kind, cure in _REDIS_CURES if isinstance(error, kind))
            cure = next(cures, "start it, or set DRIFTLINE_FEATURES__REDIS to its address")
        return f"{self.describe()} cannot be used ({message}): {cure}"

    def _explain_sqlite(self, message: str) -> str:
        if "no such table" in message:
            cure = "it was not applied: call FeatureStore.apply() first, as every process does when it starts"
        elif "locked" in message:
            cure = f"another process has held it for {wal_sqlite.BUSY_MS / 1_000:g} s: end that process"
        elif "disk is full" in message or "disk I/O" in message:
            cure = "free some space on its disk"
        else:
            cure = f"check that {self.folder} can be written, or delete it and start again"
        return f"{self.describe()} cannot be used ({message}): {cure}"


def _redis_connection(config: FeatureConfig) -> str:
    """Feast's connection string with timeouts: with the client's defaults a request might wait for many seconds."""
    given = {part.split("=", 1)[0] for part in config.redis.split(",") if "=" in part}
    limits = {"socket_timeout": 2, "socket_connect_timeout": 2, "retry": "null"}
    secret = [] if config.redis_password is None else [f"password={_quoted(config.redis_password.get_secret_value())}"]
    options = [f"{name}={value}" for name, value in limits.items() if name not in given]
    return ",".join([config.redis, *secret, *options])


def _quoted(value: str) -> str:
    """A value for Feast's connection string, which is split at commas and parsed as JSON if it can be (`1e5`,
    `null`)."""
    return json.dumps(value).replace(",", "\\u002c")


def _repo_config(config: FeatureConfig, folder: Path) -> Any:
    """Feast's configuration for this store."""
    online: dict[str, Any] = {"type": wal_sqlite.TYPE, "path": str((folder / "online.db").absolute())}
    if config.online_store == "redis":
        # The row's writer decides which value is newest, not the clocks of two machines (docs/decisions/0024).
        online = {"type": "redis", "connection_string": _redis_connection(config), "skip_dedup": True}
    return import_feast().RepoConfig(
        project=config.project,
        provider="local",
        registry=str((folder / "registry.db").absolute()),
        online_store=online,
        entity_key_serialization_version=3,
    )
