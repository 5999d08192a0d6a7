"""One value has one spelling: the text that every entry point makes of a value before it looks it up.

A category may be text in a CSV file, an integer in Parquet, a number in JSON and a float in a data frame with gaps. All
of them are the same value and must become the same text (docs/decisions/0086).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal

import numpy as np

Scalar = str | int | float | bool | None
FieldValue = Scalar | Sequence[Scalar]
"""Values that a profile's field may hold before encoding: one value or a list of values."""


def spell(value: object) -> str | None:
    """The one spelling of a single value; None if the value is missing.

    Text stays as it is (`"007"` is not `"7"`). A whole number has no decimal point, whatever its type: `7`, `7.0` and
    `Decimal("7.00")` are `"7"`. Integers keep every digit. Missing are None, not-a-number, infinity and empty text.
    """
    match value:
        case str():
            text = _utf8(value)
        case bool() | np.bool_():
            text = "true" if value else "false"
        case int() | np.integer():
            text = str(int(value))
        case float() | np.floating():
            text = _spell_float(value)
        case Decimal():
            text = _spell_decimal(value)
        case bytes():
            text = value.decode("utf-8", "backslashreplace")  # keeps different binary identifiers different
        case date() | time():
            text = "" if _is_missing(value) else value.isoformat()
        case _:
            text = "" if _is_missing(value) else _utf8(str(value))
    return text or None


def spell_list(value: object) -> list[str]:
    """The spellings of a multi-valued field, missing parts left out; a single value is a list of one."""
    if isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif isinstance(value, np.ndarray):
        parts = list(value.ravel())
    else:
        parts = [value]
    return [text for part in parts if (text := spell(part)) is not None]


def read_number(value: object) -> float | None:
    """A finite number; None for anything else. Text is parsed as Python does, but underscores are refused."""
    if isinstance(value, str) and "_" in value:
        return None
    if isinstance(value, bytes | list | tuple | np.ndarray):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _spell_float(value: float | np.floating) -> str:
    if not math.isfinite(value):
        return ""
    # A narrow float is spelled with its own shortest digits: 0.1 in float32 becomes "0.1", as in JSON.
    return str(int(value)) if value == int(value) else str(value)


def _spell_decimal(value: Decimal) -> str:
    if not value.is_finite():
        return ""
    if value == value.to_integral_value():
        return str(int(value))
    # As the float of the same value, where there is one: beyond its digits, different values would become one.
    return str(float(value)) if Decimal(str(float(value))) == value else f"{value.normalize():f}"


def _is_missing(value: object) -> bool:
    """Whether `value` is None or a library's missing value (pandas' NA and NaT), whose self-comparison fails."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124 - only a mark of a missing value differs from itself
    except (TypeError, ValueError):
        return True


def _utf8(text: str) -> str:
    """Replaces lone surrogates, which are legal in JSON, because neither files nor protocol buffers can hold them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
