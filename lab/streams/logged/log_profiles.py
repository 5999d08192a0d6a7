"""Profiles of the users and items of a log, from its side tables."""

from __future__ import annotations

from collections.abc import Mapping as Columns
from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.profiles import ItemProfile, UserProfile
from lab.streams.logged.mapping import FieldRule, Mapping, SideTable
from lab.streams.logged.rows import Rows
from lab.streams.logged.tables import Table
from lab.streams.stream import StreamError
from model.encoding.spelling import FieldValue


def make_users(mapping: Mapping, rows: Rows, table: Table | None) -> tuple[UserProfile, ...]:
    """The users of the log, in order of their first sight; one without a row in the table has no fields."""
    time = float(rows.time.min())
    ids = list(dict.fromkeys(rows.user))
    if table is None or mapping.users is None:
        return tuple(UserProfile(user, time) for user in ids)
    place, fields = _columns(table, mapping.users)
    return tuple(UserProfile(user, time, _fields(fields, place.get(user))) for user in ids)


def make_items(mapping: Mapping, rows: Rows, table: Table | None) -> tuple[ItemProfile, ...]:
    """The items of the log, in order of their first sight; one without a row in the table has no text and fields."""
    time = float(rows.time.min())
    ids = list(dict.fromkeys(rows.item))
    if table is None or mapping.items is None:
        return tuple(ItemProfile(item, time) for item in ids)
    place, fields = _columns(table, mapping.items)
    texts = [table.column(name, "the item's text").fillna("").astype(str).to_numpy() for name in mapping.items.text]
    out = []
    for item in ids:
        row = place.get(item)
        text = ". ".join(part for part in (column[row] for column in texts) if part) if row is not None else ""
        out.append(ItemProfile(item, time, text, _fields(fields, row)))
    return tuple(out)


def _columns(table: Table, side: SideTable) -> tuple[dict[str, int], dict[str, Sequence[FieldValue | None]]]:
    """Row of each key (the last one counts), and the values of each field."""
    place = {key: n for n, key in enumerate(table.ids(side.key, "key"))}
    fields: dict[str, Sequence[FieldValue | None]] = {
        name: _values(table, name, rule) for name, rule in side.fields.items()
    }
    return place, fields


def _values(table: Table, name: str, rule: FieldRule) -> list[FieldValue | None]:
    column = table.column(rule.column or name, f"field {name!r}")
    if rule.kind == "number":
        numbers = pd.to_numeric(column, errors="coerce")
        if numbers.isna().all() and column.notna().any():
            raise StreamError(
                f"{table.source}: field {name!r} is said to be a number, but {column.dropna().iloc[0]!r} is none; "
                f"set its kind to single or multi in the mapping"
            )
        return [None if np.isnan(number) else float(number) for number in numbers]
    if rule.kind == "multi":
        return [_many(value, rule.separator) for value in column]
    return [
        None if missing or value == "" else str(value) for value, missing in zip(column, column.isna(), strict=True)
    ]


def _many(value: object, separator: str) -> list[str] | None:
    if isinstance(value, list | np.ndarray):
        return [str(part) for part in value]
    if not isinstance(value, str):
        return None
    return [part.strip() for part in value.split(separator) if part.strip()]


def _fields(columns: Columns[str, Sequence[FieldValue | None]], row: int | None) -> dict[str, FieldValue]:
    if row is None:
        return {}
    return {name: value for name, values in columns.items() if (value := values[row]) is not None}
