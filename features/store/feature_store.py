"""The feature store as the other packages use it: profiles, text vectors and live rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.config import FeatureConfig
from features.live.layout import KEY_SEPARATOR, OVERALL, Kind, LiveRow
from features.live.tasks import click_kind, of_conversions
from features.profiles import ItemLike, UserLike
from features.store import codec
from features.store.definitions import ITEM_PROFILE, ITEM_TEXT, UPDATED_AT, USER_PROFILE, VECTOR, live_view
from features.store.online import OnlineStore
from features.store.read_counts import ReadCounts, Uncounted
from features.store.undeclared import UndeclaredFields
from features.text import TextEncoder
from model.config import FieldSpec
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.spelling import FieldValue

_CONVERSIONS = "\x1ecvr"


class FeatureStore:
    """Profiles, text vectors and live rows. Call `apply` first; it is quick if nothing has changed.

    One writer per key (the ingest for profiles, a group's owner for live rows), any number of readers.
    """

    def __init__(
        self,
        config: FeatureConfig,
        run_dir: Path,
        counts: ReadCounts | None = None,
        *,
        text: TextEncoder | None = None,
    ) -> None:
        self.config = config
        self.online = OnlineStore(config, run_dir)
        self._counts = counts or Uncounted()
        self._text = text
        self._undeclared = {
            USER_PROFILE: UndeclaredFields(USER_PROFILE, "features.user_fields", config.user_fields),
            ITEM_PROFILE: UndeclaredFields(ITEM_PROFILE, "features.item_fields", config.item_fields),
        }

    @property
    def applied(self) -> bool:
        """Whether this configuration's views have been applied in this run's folder."""
        return self.online.applied

    def apply(self) -> None:
        """Registers the views and makes the tables unless that is done. Raises StoreUnavailableError."""
        self.online.apply()

    def describe(self) -> str:
        """Which online store is used, and where."""
        return self.online.describe()

    def write_users(self, users: Sequence[UserLike]) -> None:
        """Replaces the users' profiles; for several with one id, the last one is kept. Raises StoreUnavailableError."""
        rows = []
        for user in {user.user_id: user for user in users}.values():
            fields = self._written(USER_PROFILE, self.config.user_fields, user.fields)
            rows.append((user.user_id, {**fields, UPDATED_AT: codec.number(user.time)}))
        self.online.write(USER_PROFILE, rows)

    def write_items(self, items: Sequence[ItemLike]) -> None:
        """Replaces the items' profiles and text vectors; for several with one id, the last one is kept.

        Raises StoreUnavailableError, TextModelUnavailableError, or ValueError when the store has no text encoder.
        """
        if self._text is None:
            raise ValueError("this feature store was made without a text encoder: it cannot write items")
        last = list({item.item_id: item for item in items}.values())
        vectors = self._text.encode([item.text for item in last])
        profiles, texts = [], []
        for item, vector in zip(last, vectors, strict=True):
            fields = self._written(ITEM_PROFILE, self.config.item_fields, item.fields)
            age = {UPDATED_AT: codec.number(item.time)}
            profiles.append((item.item_id, {**fields, **age}))
            texts.append((item.item_id, {VECTOR: codec.vector(vector), **age}))
        self.online.write(ITEM_TEXT, texts)
        self.online.write(ITEM_PROFILE, profiles)

    def read_users(self, ids: Sequence[str], now: float | None = None) -> list[UserFeatures | None]:
        """Profiles in the order of `ids`; None for a missing one or one older than `max_age_profile_s` (both counted).

        `now` is wall-clock time, seconds since the epoch; None reads the clock. Raises StoreUnavailableError.
        """
        users = [
            None if values is None else UserFeatures(key, codec.read_fields(self.config.user_fields, values))
            for key, values in zip(ids, self._read_profiles(USER_PROFILE, ids, now), strict=True)
        ]
        self._count_filled(USER_PROFILE, users)
        return users

    def read_items(self, ids: Sequence[str], now: float | None = None) -> list[ItemFeatures | None]:
        """Profiles with text vectors, as `read_users`. An item without a text vector has one of length 0."""
        profiles = self._read_profiles(ITEM_PROFILE, ids, now)
        texts = self.online.read(ITEM_TEXT, ids)
        items = [
            None
            if profile is None
            else ItemFeatures(
                key, codec.read_fields(self.config.item_fields, profile), codec.read_vector(text or {}, VECTOR)
            )
            for key, profile, text in zip(ids, profiles, texts, strict=True)
        ]
        self._count_filled(ITEM_PROFILE, items)
        self._count_read(ITEM_TEXT, [text for item, text in zip(items, texts, strict=True) if item is not None])
        return items

    def user_times(self, ids: Sequence[str]) -> list[float | None]:
        """Event times of the stored profiles in the order of `ids`, None for a missing one; nothing is counted.

        Raises StoreUnavailableError.
        """
        return [None if row is None else codec.updated_at(row) for row in self.online.read(USER_PROFILE, ids)]

    def item_times(self, ids: Sequence[str]) -> list[float | None]:
        """As `user_times`."""
        return [None if row is None else codec.updated_at(row) for row in self.online.read(ITEM_PROFILE, ids)]

    def push_live(self, rows: Sequence[LiveRow], scope: str = "") -> None:
        """Writes live rows, one batch per view, and deletes evicted ones. Raises StoreUnavailableError.

        `scope` separates the rows of kernel groups, which may know the same users and items.
        """
        written: dict[Kind, list[tuple[str, codec.Values]]] = {}
        evicted: dict[Kind, list[str]] = {}
        for row in {(row.kind, row.key): row for row in rows}.values():
            key = _scoped(_task_scope(scope, row.kind), row.key)
            if row.tombstone:
                evicted.setdefault(row.kind, []).append(key)
            else:
                written.setdefault(row.kind, []).append((key, codec.write_live(row)))
        for kind, changed in written.items():
            self.online.write(live_view(click_kind(kind)), changed)
        for kind, keys in evicted.items():
            self.online.delete(live_view(click_kind(kind)), keys)

    def read_live(self, kind: Kind, keys: Sequence[str], now: float, scope: str = "") -> list[LiveRow | None]:
        """Live rows in the order of `keys`; None for a missing one or one older than `max_age_live_s` (both counted).

        `now` is the event time of the request, seconds. Raises StoreUnavailableError.
        """
        view, scope = live_view(click_kind(kind)), _task_scope(scope, kind)
        rows: list[LiveRow | None] = []
        stale = 0
        for key, values in zip(keys, self.online.read(view, [_scoped(scope, key) for key in keys]), strict=True):
            row = codec.read_live(kind, key, values) if values is not None else None
            if row is not None and 0 < self.config.max_age_live_s < now - row.updated_at:
                row = None
                stale += 1
            rows.append(row)
        self._count_read(live_view(kind), rows, stale=stale)
        return rows

    def holds_live(self, scope: str = "") -> bool:
        """Whether the row of all traffic of a scope is there, which every push of new examples writes.

        Nothing is counted. Raises StoreUnavailableError.
        """
        return self.online.read(live_view("domain"), [_scoped(scope, OVERALL)])[0] is not None

    def _read_profiles(self, view: str, ids: Sequence[str], now: float | None) -> list[codec.Values | None]:
        rows = self.online.read(view, ids)
        missing, limit = rows.count(None), self.config.max_age_profile_s
        if limit:
            oldest = (time.time() if now is None else now) - limit
            rows = [None if row is None or codec.updated_at(row) < oldest else row for row in rows]
        self._count_read(view, rows, stale=rows.count(None) - missing)
        return rows

    def _written(self, view: str, specs: Sequence[FieldSpec], fields: Mapping[str, FieldValue]) -> codec.Values:
        """A profile's declared fields as Feast's values; counts those that are left out."""
        written, wrong = codec.write_fields(specs, fields)
        self.defaulted(view, "bad_value", wrong)
        self.defaulted(view, "undeclared", self._undeclared[view].count(fields))
        return written

    def defaulted(self, view: str, reason: str, number: int) -> None:
        """Counts values that a reader replaces by defaults; zero is not counted."""
        if number:
            self._counts.defaulted(view, reason, number)

    def _count_read(self, view: str, rows: Sequence[object | None], *, stale: int = 0) -> None:
        """Counts the rows of one read; those that are None were missing, but for `stale` ones."""
        absent = sum(row is None for row in rows)
        self.defaulted(view, "stale", stale)
        self.defaulted(view, "missing", absent - stale)
        if absent < len(rows):
            self._counts.found(view, len(rows) - absent)

    def _count_filled(self, view: str, profiles: Sequence[UserFeatures | ItemFeatures | None]) -> None:
        filled = Counter(name for profile in profiles if profile is not None for name in profile.fields)
        for name, number in filled.items():
            self._counts.filled(view, name, number)


def _task_scope(scope: str, kind: Kind) -> str:
    """The scope of a task's rows. Rows of conversions share the views of clicks, in a scope that no group can have."""
    return f"{scope}{_CONVERSIONS}" if of_conversions(kind) else scope


def _scoped(scope: str, key: str) -> str:
    return f"{scope}{KEY_SEPARATOR}{key}" if scope else key
