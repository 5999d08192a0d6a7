"""Live rows of conversions beside those of clicks: the same rows under kinds of their own.

Inside `features.live` the rows of both tasks have the plain kinds. Where both are stored together (the log of state,
the feature store, the first rows), rows of conversions have the kinds named here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from features.live.layout import KINDS, Kind, LiveRow

_OF_CONVERSIONS: dict[Kind, Kind] = {
    "user": "cvr_user",
    "item": "cvr_item",
    "domain": "cvr_domain",
    "facet": "cvr_facet",
}
_PLAIN: dict[Kind, Kind] = {_OF_CONVERSIONS[kind]: kind for kind in KINDS}


def conversion_kind(kind: Kind) -> Kind:
    """The kind under which rows of conversions with this plain kind are stored."""
    return _OF_CONVERSIONS[kind]


def click_kind(kind: Kind) -> Kind:
    """The plain kind of a stored row."""
    return _PLAIN.get(kind, kind)


def of_conversions(kind: Kind) -> bool:
    """Whether rows of this kind belong to the conversion task."""
    return kind in _PLAIN


def as_conversions(rows: Iterable[LiveRow]) -> list[LiveRow]:
    """Rows of the conversion task under the kinds that are stored."""
    return [replace(row, kind=_OF_CONVERSIONS[row.kind]) for row in rows]


def split_by_task(rows: Iterable[LiveRow]) -> tuple[list[LiveRow], list[LiveRow]]:
    """Divides stored rows into those of clicks and those of conversions, both under plain kinds."""
    clicks: list[LiveRow] = []
    conversions: list[LiveRow] = []
    for row in rows:
        if row.kind in _PLAIN:
            conversions.append(replace(row, kind=_PLAIN[row.kind]))
        else:
            clicks.append(row)
    return clicks, conversions
