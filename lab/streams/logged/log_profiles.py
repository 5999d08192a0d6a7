"""Profiles of the users and items of a log, from its side tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.profiles import ItemProfile, UserProfile
from lab.streams.logged.columns import numbers
from lab.streams.logged.mapping import FieldRule, LogMapping, SideTable
from lab.streams.logged.rows import LogRows
from lab.streams.logged.tables import Table
from lab.streams.stream import StreamError
from model.encoding.spelling import FieldValue, spell, spell_list

log = logging.getLogger(__name__)

_FEW = 0.1
"""A warning is logged if a smaller share of the identifiers has a row in the side table."""


@dataclass(frozen=True)
class _Columns:
    """A side table: the row of each key (the last one counts), and the values of each field."""

    index: Mapping[str, int]
    fields: Mapping[str, Sequence[FieldValue]]

    def fields_of(self, key: str) -> dict[str, FieldValue]:
        """The fields of a key that have a value; none without a row."""
        row = self.index.get(key)
        return (
            {} if row is None else {name: v for name, values in self.fields.items() if (v := values[row]) is not None}
        )


def make_users(mapping: LogMapping, rows: LogRows, table: Table | None) -> tuple[UserProfile, ...]:
    """The users of the log, in order of their first sight; one without a row in the table has no fields."""
    time = float(rows.time.min())
    ids = list(dict.fromkeys(rows.user))
    if table is None or mapping.users is None:
        return tuple(UserProfile(user, time) for user in ids)
    columns = _columns(table, mapping.users)
    _warn_if_few_match(ids, columns.index, "users", table)
    return tuple(UserProfile(user, time, columns.fields_of(user)) for user in ids)


def make_items(mapping: LogMapping, rows: LogRows, table: Table | None) -> tuple[ItemProfile, ...]:
    """The items of the log, in order of their first sight; one without a row in the table has no text and fields."""
    time = float(rows.time.min())
    ids = list(dict.fromkeys(rows.item))
    if table is None or mapping.items is None:
        return tuple(ItemProfile(item, time) for item in ids)
    columns = _columns(table, mapping.items)
    _warn_if_few_match(ids, columns.index, "items", table)
    texts = [table.texts(name, "the item's text") for name in mapping.items.text]

    def text_of(item: str) -> str:
        row = columns.index.get(item)
        return "" if row is None else ". ".join(part for column in texts if (part := column[row]))

    return tuple(ItemProfile(item, time, text_of(item), columns.fields_of(item)) for item in ids)


def _columns(table: Table, side: SideTable) -> _Columns:
    index = {key: row for row, key in enumerate(table.ids(side.key, "key"))}
    return _Columns(index, {name: _values(table, name, rule) for name, rule in side.fields.items()})


def _warn_if_few_match(ids: Sequence[str], index: Mapping[str, int], kind: str, table: Table) -> None:
    """Identifiers that are spelled differently in log and table leave everybody without fields, in silence."""
    missing = [key for key in ids if key not in index]
    if len(ids) - len(missing) >= _FEW * len(ids):
        return
    asked, known = _alike(missing, list(index))
    log.warning(
        "%s: %d of the log's %d %s have a row; the log says %r, the table %r. Are both spelled alike? Those without a "
        "row have no fields",
        table.source, len(ids) - len(missing), len(ids), kind, asked, known,
    )  # fmt: skip


def _alike(asked: Sequence[str], known: Sequence[str]) -> tuple[str, str]:
    """A pair that differs in spelling alone, if there is one, else the first of each."""
    by_core = {_core(key): key for key in reversed(known)}
    return next(((key, by_core[_core(key)]) for key in asked if _core(key) in by_core), (asked[0], known[0]))


def _core(key: str) -> str:
    """An identifier without leading zeros, decimals of a whole number, spaces and capitals."""
    return key.strip().casefold().removesuffix(".0").lstrip("0")


def _values(table: Table, name: str, rule: FieldRule) -> Sequence[FieldValue]:
    column, purpose = rule.column or name, f"field {name!r}"
    read: Mapping[str, Callable[[], Sequence[FieldValue]]] = {
        "number": lambda: _numbers(table, column, purpose),
        "multi": lambda: _lists(table, column, purpose, rule.separator),
        "single": lambda: table.texts(column, purpose).tolist(),
    }
    return read[rule.kind]()


def _numbers(table: Table, column: str, purpose: str) -> list[FieldValue]:
    """Finite numbers; everything else is a missing value, but a column without any is refused."""
    raw = table.column(column, purpose)
    values = numbers(raw)
    if np.isnan(values).all() and raw.notna().any():
        raise StreamError(
            f"{table.source}: {purpose} is declared a number, but {raw.dropna().iloc[0]!r} is none; "
            f"set its kind to single or multi in the mapping"
        )
    wrong = np.isnan(values) & raw.notna().to_numpy()
    if wrong.any():
        log.warning(
            "%s: %s: %d of %d values are no numbers and count as missing, the first in row %d: %r",
            table.source, purpose, wrong.sum(), len(values), (row := int(wrong.argmax())) + 1, raw.iloc[row],
        )  # fmt: skip
    return [None if np.isnan(value) else float(value) for value in values]


def _lists(table: Table, column: str, purpose: str, separator: str) -> list[FieldValue]:
    """Lists of a typed file unchanged; text is split at the separator."""
    out: list[FieldValue] = []
    raw = table.column(column, purpose).tolist() if not table.untyped else table.texts(column, purpose).tolist()
    for value in raw:
        parts = [part.strip() for part in value.split(separator)] if isinstance(value, str) else spell_list(value)
        spelled = [text for part in parts if (text := spell(part)) is not None]
        out.append(spelled if spelled or isinstance(value, list | np.ndarray) else None)
    return out
