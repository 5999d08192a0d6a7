"""Parses one column of a log: spelled text, finite numbers, or seconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from model.encoding.spelling import read_number, spell

EARLIEST, LATEST = 0.0, 4_102_444_800.0
"""1970 and 2100, the valid times of a log in seconds. Others are milliseconds read as seconds, or marks of a gap."""
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Units per second."""
_WHOLE = re.compile(r"[+-]?\d+\.0+")
_RELATIVE = frozenset({"now", "today"})
"""Words that pandas reads as the moment of reading, whatever the format."""


def spelled(column: pd.Series, *, untyped: bool = False) -> NDArray[np.object_]:
    """The column's values by their one spelling, None where one is missing (docs/decisions/0086).

    `untyped` is a column of a text file. There `7.0` beside empty cells is an integer as a data frame writes it, and
    `True` or `FALSE` in all cells a boolean.
    """
    if column.dtype == object and not untyped:
        return _objects([spell(value) for value in column.tolist()])
    codes, values = pd.factorize(column)  # of one type: what is equal is one value
    texts = [spell(value) for value in values]
    if untyped:
        texts = _without_float_form(texts, gaps=bool((codes < 0).any()))
    return _objects([*texts, None])[codes]


def _without_float_form(texts: list[str | None], *, gaps: bool) -> list[str | None]:
    known = [text for text in texts if text is not None]
    if gaps and known and all(_WHOLE.fullmatch(text) for text in known):
        return [None if text is None else str(int(text.partition(".")[0])) for text in texts]
    if known and {text.lower() for text in known} <= {"true", "false"}:
        return [None if text is None else text.lower() for text in texts]
    return texts


def is_nested(value: object) -> bool:
    """Whether a cell holds a list or an object, where one value is wanted."""
    return isinstance(value, list | tuple | dict | np.ndarray)


def numbers(column: pd.Series) -> NDArray[np.float64]:
    """Finite numbers, nan for everything else: text, gaps, infinity, and times, which are no numbers."""
    dtype = column.dtype
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    elif pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype):
        values = np.array([np.nan if (n := read_number(v)) is None else n for v in column.tolist()], dtype=np.float64)
    else:
        values = np.full(len(column), np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def stamps(column: pd.Series) -> NDArray[np.float64]:
    """As `numbers`, without true and false, which are no times although they count as 1 and 0."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan)
    flags = column.map(lambda value: isinstance(value, bool | np.bool_)) if column.dtype == object else False
    return np.where(flags, np.nan, numbers(column))


def is_typed_time(column: pd.Series) -> bool:
    """Whether the column holds dates or datetimes, which need neither unit nor format."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return True
    return column.dtype == object and any(isinstance(value, date) for value in column.tolist())


def typed_seconds(column: pd.Series) -> NDArray[np.float64]:
    """Seconds since the epoch of dates and datetimes of any resolution, nan for anything else. UTC if unsaid."""
    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        return np.array([_seconds_of(value) for value in column.tolist()], dtype=np.float64)
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    moments = column.to_numpy()
    unit, step = np.datetime_data(moments.dtype)
    seconds = moments.astype(np.int64) * step / UNITS[unit]
    return np.asarray(np.where(np.isnat(moments), np.nan, seconds), dtype=np.float64)


def _seconds_of(value: object) -> float:
    if isinstance(value, datetime):
        moment: Any = value
        if pd.isna(moment):
            return float("nan")
        return float((moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp())
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return float("nan")


def parsed_seconds(texts: NDArray[np.object_], form: str | None) -> NDArray[np.float64]:
    """Seconds since the epoch of text in a strptime format, ISO 8601 if None; nan where it does not fit."""
    if form == "mixed":  # pandas' own word: it guesses a format for each value, the month before the day
        raise ValueError("it guesses a format for each row")
    said = pd.Series(texts, dtype=object)
    relative = said.str.strip().str.lower().isin(_RELATIVE)
    return typed_seconds(pd.to_datetime(said.mask(relative), format=form or "ISO8601", errors="coerce", utc=True))


def written_step(column: pd.Series) -> float:
    """The finest step in which numbers of a text column with an exponent are written: 1e4 for `1.76726E+09`; else 0.

    A spreadsheet writes six digits of a large number, and nobody can see from one value which ones it left out.
    """
    texts = [value for value in column.tolist() if isinstance(value, str) and "e" in value.lower()]
    if not texts or len(texts) < column.notna().sum():
        return 0.0
    exponents = [Decimal(text.strip()).as_tuple().exponent for text in texts if read_number(text) is not None]
    return 10.0 ** min((power for power in exponents if isinstance(power, int)), default=-1)


def _objects(values: list[str | None]) -> NDArray[np.object_]:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
