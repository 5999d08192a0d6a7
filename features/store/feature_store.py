"""The feature store: Feast in front of SQLite or Redis, in the words of this project.

Rows go through the online store's own `online_write_batch` and `online_read`, the interface that every Feast online
store implements; `push` and `get_online_features` put pandas and Arrow between, at several times the cost
(`benchmarks/feature_store.py`). What is stored is the same, and Feast's own calls read it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from features.config import FeatureConfig
from features.live.layout import KEY_SEPARATOR, Kind, LiveRow
from features.profiles import ItemLike, UserLike
from features.store import codec, wal_sqlite
from features.store.definitions import (
    ITEM_PROFILE,
    ITEM_TEXT,
    UPDATED_AT,
    USER_PROFILE,
    VECTOR,
    build,
    join_key,
    live_view,
)
from features.store.feast_guard import import_feast
from features.text import TextEncoder
from model.encoding.features import ItemFeatures, UserFeatures
from model.whole_files import write_whole

log = logging.getLogger(__name__)

Count = Callable[[str, str, int], None]
"""Called with view, reason (`missing`, `stale`, `bad_value`, `unknown_value` or `cut_value`) and how many."""

_WRITE_CHUNK = 500
_MICROSECOND = timedelta(microseconds=1)


class StoreUnavailableError(Exception):
    """The online store cannot be used; the message names it and the cure."""


class FeatureStore:
    """Profiles, text vectors and live rows. `apply` once before anything else; it is quick when nothing changed.

    One writer per key (the ingest for profiles, a group's owner for live rows), any number of readers.
    """

    def __init__(
        self,
        config: FeatureConfig,
        run_dir: Path,
        count: Count | None = None,
        *,
        text: TextEncoder | None = None,
    ) -> None:
        self.config = config
        self.folder = run_dir / "feast"
        self._count = count or _uncounted
        self._text = text
        self._repository = build(config, self.folder)
        self._repo_config = _repo_config(config, self.folder)
        helpers = import_feast("feast.infra.online_stores.helpers")
        self._online = helpers.get_online_store_from_config(self._repo_config.online_store)
        # our SQLite has quicker ones of its own
        self._read_rows = getattr(self._online, "read_values", self._online.online_read)
        self._write_rows = getattr(
            self._online, "write_values", functools.partial(self._online.online_write_batch, progress=None)
        )
        self._newest_stamp = datetime.fromtimestamp(0, UTC)

    # --- set-up ---

    @property
    def applied(self) -> bool:
        """Whether this configuration's views have been applied in this run's folder."""
        made = self.config.online_store == "redis" or (self.folder / "online.db").is_file()
        return made and self._marker.is_file() and self._marker.read_text() == self._definition()

    def apply(self) -> None:
        """Registers entities and views and makes the tables. Safe to call by several processes at once."""
        if self.applied:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("w") as lock, self._clear_errors():
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.applied:
                    import_feast().FeatureStore(config=self._repo_config).apply(self._repository.objects)
                    self._ping()
                    write_whole(self._marker, self._definition())
        except OSError as error:
            raise StoreUnavailableError(
                f"the feature store cannot be made in {self.folder} ({error}): "
                "choose a DRIFTLINE_RUN_DIR that can be written"
            ) from error
        log.info("feature store: %s", self.describe())

    def describe(self) -> str:
        """Which online store is used, and where."""
        if self.config.online_store == "redis":
            return f"Redis at {self.config.redis.split(',')[0]}"
        return f"SQLite in {self.folder / 'online.db'}"

    # --- profiles ---

    def write_users(self, users: Sequence[UserLike]) -> None:
        """Replaces the users' profiles; of several with one id the last stays. Raises StoreUnavailableError."""
        rows = []
        for user in {user.user_id: user for user in users}.values():
            fields, wrong = codec.write_fields(self.config.user_fields, user.fields)
            self.counted(USER_PROFILE, "bad_value", wrong)
            rows.append((user.user_id, {**fields, UPDATED_AT: codec.number(user.time)}))
        self._write(USER_PROFILE, rows)

    def write_items(self, items: Sequence[ItemLike]) -> None:
        """Replaces the items' profiles and text vectors; of several with one id the last stays.

        Raises StoreUnavailableError, TextModelUnavailableError, or ValueError when the store has no text encoder.
        """
        if self._text is None:
            raise ValueError("this feature store was made without a text encoder: it cannot write items")
        last = list({item.item_id: item for item in items}.values())
        vectors = self._text.encode([item.text for item in last])
        profiles, texts = [], []
        for item, vector in zip(last, vectors, strict=True):
            fields, wrong = codec.write_fields(self.config.item_fields, item.fields)
            self.counted(ITEM_PROFILE, "bad_value", wrong)
            age = {UPDATED_AT: codec.number(item.time)}
            profiles.append((item.item_id, {**fields, **age}))
            texts.append((item.item_id, {VECTOR: codec.vector(vector), **age}))
        self._write(ITEM_TEXT, texts)
        self._write(ITEM_PROFILE, profiles)

    def read_users(self, ids: Sequence[str], now: float | None = None) -> list[UserFeatures | None]:
        """Profiles in the order of `ids`; None where there is none or it is too old (counted)."""
        return [
            None if values is None else UserFeatures(key, codec.read_fields(self.config.user_fields, values))
            for key, values in zip(ids, self._read_profiles(USER_PROFILE, ids, now), strict=True)
        ]

    def read_items(self, ids: Sequence[str], now: float | None = None) -> list[ItemFeatures | None]:
        """Profiles with text vectors, as `read_users`. An item without a text vector has one of length 0."""
        profiles = self._read_profiles(ITEM_PROFILE, ids, now)
        texts = self._read(ITEM_TEXT, ids)
        return [
            None
            if profile is None
            else ItemFeatures(
                key, codec.read_fields(self.config.item_fields, profile), codec.read_vector(text or {}, VECTOR)
            )
            for key, profile, text in zip(ids, profiles, texts, strict=True)
        ]

    # --- live rows ---

    def push_live(self, rows: Sequence[LiveRow], scope: str = "") -> None:
        """Writes live rows, one batch per view; tombstones too. Raises StoreUnavailableError.

        `scope` keeps the rows of kernel groups apart that follow the same users and items.
        """
        by_kind: dict[Kind, list[tuple[str, codec.Values]]] = {}
        for row in rows:
            by_kind.setdefault(row.kind, []).append((_scoped(scope, row.key), codec.write_live(row)))
        for kind, written in by_kind.items():
            self._write(live_view(kind), written)

    def read_live(self, kind: Kind, keys: Sequence[str], now: float, scope: str = "") -> list[LiveRow | None]:
        """Live rows in the order of `keys`; None where there is none or it is older than `max_age_live_s` (counted).

        `now` is the event time of the request, seconds. Raises StoreUnavailableError.
        """
        view = live_view(kind)
        found: list[LiveRow | None] = []
        stale = 0
        for key, values in zip(keys, self._read(view, [_scoped(scope, key) for key in keys]), strict=True):
            row = codec.read_live(kind, key, values) if values is not None else None
            if row is not None and now - row.updated_at > self.config.max_age_live_s:
                row = None
                stale += 1
            found.append(row)
        self.counted(view, "stale", stale)
        self.counted(view, "missing", found.count(None) - stale)
        return found

    # --- rows of any view ---

    def _write(self, view: str, rows: Iterable[tuple[str, codec.Values]]) -> None:
        column = join_key(self._repository.entity_of(view))
        encoded = [(codec.entity_key(column, key), values) for key, values in rows]
        for start in range(0, len(encoded), _WRITE_CHUNK):  # short transactions: the other writer waits for them
            data = [(key, values, self._stamp(), None) for key, values in encoded[start : start + _WRITE_CHUNK]]
            with self._clear_errors():
                self._write_rows(self._repo_config, self._repository.views[view], data)

    def _read(self, view: str, keys: Sequence[str]) -> list[codec.Values | None]:
        if not keys:
            return []
        column = join_key(self._repository.entity_of(view))
        entity_keys = [codec.entity_key(column, key) for key in keys]
        with self._clear_errors():
            rows = self._read_rows(self._repo_config, self._repository.views[view], entity_keys)
        # Redis answers an unknown key with empty values; every row of ours has its time
        return [values if codec.has_time(values) else None for _, values in rows]

    def _read_profiles(self, view: str, ids: Sequence[str], now: float | None) -> list[codec.Values | None]:
        found = self._read(view, ids)
        missing = found.count(None)
        limit = self.config.max_age_profile_s
        if limit:
            oldest = (time.time() if now is None else now) - limit
            found = [None if row is None or codec.updated_at(row) < oldest else row for row in found]
        self.counted(view, "missing", missing)
        self.counted(view, "stale", found.count(None) - missing)
        return found

    def _stamp(self) -> datetime:
        """Strictly increasing: a Redis store with Feast's own settings drops a row with an equal or older stamp."""
        self._newest_stamp = max(datetime.now(UTC), self._newest_stamp + _MICROSECOND)
        return self._newest_stamp

    def counted(self, view: str, reason: str, number: int) -> None:
        """Tells whoever counts for this process; nothing for zero."""
        if number:
            self._count(view, reason, number)

    # --- errors and set-up ---

    @property
    def _marker(self) -> Path:
        return self.folder / "applied"

    def _definition(self) -> str:
        views = [f"{name}: {view.schema}" for name, view in sorted(self._repository.views.items())]
        parts = [self.config.project, self.config.online_store, self.config.redis, *views]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _ping(self) -> None:
        """One read: an online store that is not there is told at the set-up, not at the first request."""
        self._online.online_read(
            self._repo_config, self._repository.views[USER_PROFILE], [codec.entity_key(join_key("user"), "")]
        )

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailableError(self._explain_sqlite(str(error))) from error
        except redis.RedisError as error:
            raise StoreUnavailableError(
                f"{self.describe()} cannot be used ({error}): start it, or set DRIFTLINE_FEATURES__REDIS to its address"
            ) from error

    def _explain_sqlite(self, said: str) -> str:
        if "no such table" in said:
            cure = "it was not applied: call FeatureStore.apply() first, as every process of ours does at its start"
        elif "locked" in said:
            cure = f"another process has held it for {wal_sqlite.BUSY_MS / 1_000:g} s: end that process"
        elif "disk is full" in said:
            cure = "free some space on its disk"
        else:
            cure = f"check that {self.folder} can be written, or delete it and start again"
        return f"{self.describe()} cannot be used ({said}): {cure}"


def _scoped(scope: str, key: str) -> str:
    return f"{scope}{KEY_SEPARATOR}{key}" if scope else key


def _uncounted(_view: str, _reason: str, _number: int) -> None:
    return None


def _redis_connection(config: FeatureConfig) -> str:
    """Feast's connection string with limits: a client's own defaults would hold a request for many seconds."""
    given = {part.split("=", 1)[0] for part in config.redis.split(",") if "=" in part}
    limits = {"socket_timeout": 2, "socket_connect_timeout": 2, "retry": "null"}
    secret = [] if config.redis_password is None else [f"password={_quoted(config.redis_password.get_secret_value())}"]
    options = [f"{name}={value}" for name, value in limits.items() if name not in given]
    return ",".join([config.redis, *secret, *options])


def _quoted(value: str) -> str:
    """A value of Feast's connection string, which is cut at commas and read as JSON where it can be (`1e5`, `null`)."""
    return json.dumps(value).replace(",", "\\u002c")


def _repo_config(config: FeatureConfig, folder: Path) -> Any:
    """Feast's own configuration."""
    online: dict[str, Any] = {"type": wal_sqlite.TYPE, "path": str((folder / "online.db").absolute())}
    if config.online_store == "redis":
        # a row's writer decides which value is newest, not two machines' clocks: no comparison of stamps
        online = {"type": "redis", "connection_string": _redis_connection(config), "skip_dedup": True}
    return import_feast().RepoConfig(
        project=config.project,
        provider="local",
        registry=str((folder / "registry.db").absolute()),
        online_store=online,
        entity_key_serialization_version=3,
    )
