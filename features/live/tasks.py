"""Live rows of conversions beside those of clicks: the same rows under kinds of their own.

Inside `features.live` the rows of either task have plain kinds. Where both travel together (the log of state, the
feature store, the first rows) those of conversions have the kinds that are named here.
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
    """Under which kind the rows of conversions travel whose plain kind this is."""
    return _OF_CONVERSIONS[kind]


def plain_kind(kind: Kind) -> Kind:
    """The kind that a row has inside its task."""
    return _PLAIN.get(kind, kind)


def of_conversions(kind: Kind) -> bool:
    """Whether rows of this kind are of conversions."""
    return kind in _PLAIN


def as_conversions(rows: Iterable[LiveRow]) -> list[LiveRow]:
    """Rows of the task of conversions, as they travel beside those of clicks."""
    return [replace(row, kind=_OF_CONVERSIONS[row.kind]) for row in rows]


def divided(rows: Iterable[LiveRow]) -> tuple[list[LiveRow], list[LiveRow]]:
    """Rows of clicks and rows of conversions, each under their plain kinds."""
    clicks: list[LiveRow] = []
    conversions: list[LiveRow] = []
    for row in rows:
        if row.kind in _PLAIN:
            conversions.append(replace(row, kind=_PLAIN[row.kind]))
        else:
            clicks.append(row)
    return clicks, conversions
