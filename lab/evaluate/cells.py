"""Formats of figures in tables; NaN becomes a blank cell."""

from __future__ import annotations

import math

from lab.intervals import Interval


def number(value: float, digits: int = 4) -> str:
    """A figure.

    >>> number(0.65, 3)
    '0.650'
    """
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """A difference.

    >>> signed(0.01)
    '+0.0100'
    """
    return "" if math.isnan(value) else f"{value:+.4f}"


def difference_cell(value: Interval) -> str:
    """A difference with its interval."""
    return "" if math.isnan(value.mean) else str(value)


def interval_cell(value: Interval) -> str:
    """A figure with its interval."""
    return difference_cell(value).lstrip("+")


def amount(count: int, noun: str) -> str:
    """A number with its noun.

    >>> amount(1, "seed"), amount(1_200, "seed")
    ('1 seed', '1,200 seeds')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
