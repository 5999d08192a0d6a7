"""A table's columns as identifiers, texts, numbers, times and labels, with errors that name file, column and cure."""

from __future__ import annotations

import glob
import logging
from datetime import time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.streams.logged.columns import (
    EARLIEST,
    LATEST,
    UNITS,
    is_nested,
    is_typed_time,
    numbers,
    parsed_seconds,
    spelled,
    stamps,
    typed_seconds,
    written_step,
)
from lab.streams.logged.mapping import LabelRule, TableSource, TimeRule
from lab.streams.logged.read import read_frames
from lab.streams.stream import StreamError

log = logging.getLogger(__name__)

_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
_RECENT, _YEAR_S = 315_532_800.0, 31_536_000.0  # 1980: what a time read in another unit has to pass to be guessed
_FINE_S = 100.0
"""Seconds. Exact times with an exponent leave out two zeros, because days are multiples of 100 s."""
_NAMES = 8
"""File names that an error lists."""


class Table:
    """Columns as they were read, and the name errors give to where they came from."""

    def __init__(self, frame: pd.DataFrame, source: str, *, untyped: bool = False) -> None:
        self.frame = frame
        self.source = source
        self.untyped = untyped
        """A text file: all its cells are text."""

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str, purpose: str) -> pd.Series:
        """A column as it was read. Raises StreamError naming the columns there are."""
        if name not in self.frame.columns:
            known = ", ".join(map(str, self.frame.columns))
            cure = "correct the name in the mapping"
            if len(self.frame.columns) == 1 and self.untyped:
                cure = "set `delimiter` in the mapping to what stands between them"
            raise StreamError(f"{self.source}: no column {name!r} for {purpose}; the columns are {known}; {cure}")
        return self.frame[name]

    def texts(self, name: str, purpose: str) -> NDArray[np.object_]:
        """Single values by their one spelling, None where one is missing. Raises StreamError for a list."""
        column = self.column(name, purpose)
        if column.dtype == object and not self.untyped:
            for row, value in enumerate(column.tolist(), 1):
                if is_nested(value):
                    raise StreamError(
                        f"{self.source}: column {name!r} ({purpose}), row {row}: {value!r} is a list or an object, one "
                        f"value is wanted; for a field set its kind to multi in the mapping"
                    )
        return spelled(column, untyped=self.untyped)

    def ids(self, name: str, purpose: str) -> NDArray[np.object_]:
        """Identifiers as text. Raises StreamError for an empty one."""
        texts = self.texts(name, purpose)
        missing = _missing(texts)
        if missing.any():
            raise StreamError(
                f"{self.source}: column {name!r} ({purpose}) is empty in row {_row(missing)}; drop or fill such rows"
            )
        return texts

    def numbers(self, name: str, purpose: str) -> NDArray[np.float64]:
        """Finite numbers, nan in empty cells. Raises StreamError for anything else."""
        column = self.column(name, purpose)
        values = numbers(column)
        wrong = np.isnan(values) & ~_missing(self.texts(name, purpose))
        wrong |= np.isnan(values) & _infinite(column)
        if wrong.any():
            row = _row(wrong)
            raise StreamError(
                f"{self.source}: column {name!r} ({purpose}), row {row}: {_plain(column.iloc[row - 1])!r} is no number"
            )
        return values

    def times(self, rule: TimeRule) -> NDArray[np.float64]:
        """Seconds since the epoch. Raises StreamError for one that cannot be read or is not between 1970 and 2100."""
        column = self.column(rule.column, "time")
        how = f"format {rule.format!r}" if rule.format else f"unit {rule.unit!r}"
        if is_typed_time(column):
            if rule.model_fields_set & {"unit", "format"}:
                log.warning("%s: column %r holds times by its type, %s is not used", self.source, rule.column, how)
            how = "its type"
            seconds = typed_seconds(column)
        elif rule.format is not None or rule.unit == "iso":
            seconds = self._parsed(rule)
        else:
            seconds = stamps(column) / UNITS[rule.unit]
            self._check_precision(rule, column)
        self._check_times(rule, column, seconds, how)
        return seconds

    def _check_precision(self, rule: TimeRule, column: pd.Series) -> None:
        written = written_step(column) / UNITS[rule.unit] if column.dtype == object else 0.0
        if written > _FINE_S:
            raise StreamError(
                f"{self.source}: column {rule.column!r} has times as {column.dropna().iloc[0]!r}, rounded to "
                f"{written:.0f} s; a spreadsheet writes large numbers so: export the column with all digits"
            )
        if column.dtype not in (np.float16, np.float32):
            return
        step = float(np.spacing(np.abs(column.to_numpy()[np.isfinite(column)]).max(initial=0))) / UNITS[rule.unit]
        if step > 1:  # a time of today in 32 bits is rounded to 128 s, so the order of a session is lost
            raise StreamError(
                f"{self.source}: column {rule.column!r} is {column.dtype}, which rounds its times to {step:.0f} s; "
                "write them as float64 or as integers"
            )

    def known_times(self, rule: TimeRule, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """As `times` for the `wanted` rows, `(rows,)`; NaN for all others."""
        column = self.column(rule.column, "time")
        if not wanted.any():
            return np.full(len(self), np.nan)
        filled = column.where(wanted, column.iloc[int(np.flatnonzero(wanted)[0])])
        seconds = Table(self.frame.assign(**{rule.column: filled}), self.source, untyped=self.untyped).times(rule)
        return np.where(wanted, seconds, np.nan)

    def _parsed(self, rule: TimeRule) -> NDArray[np.float64]:
        try:
            return parsed_seconds(self.texts(rule.column, "time"), rule.format)
        except ValueError as error:
            raise StreamError(
                f"{self.source}: time.format {rule.format!r} is no strptime format ({error}); correct it in the mapping"
            ) from error

    def _check_times(self, rule: TimeRule, column: pd.Series, seconds: NDArray[np.float64], how: str) -> None:
        wrong = ~((seconds >= EARLIEST) & (seconds < LATEST))  # not-a-number is wrong too
        if not wrong.any() and seconds.max() >= _RECENT:
            wrong = seconds < _YEAR_S  # if other times are later, one in 1970 marks a gap
        if not wrong.any():
            if seconds.max() < _YEAR_S:
                log.warning(
                    "%s: column %r: with %s all times lie in 1970; see time.unit in the mapping if that is wrong",
                    self.source, rule.column, how,
                )  # fmt: skip
            return
        row = _row(wrong)
        value, read = _plain(column.iloc[row - 1]), float(seconds[row - 1])
        at = f"{self.source}: column {rule.column!r}, row {row}"
        if np.isnan(read) and (is_nested(value) or (value != "" and not column.isna().iloc[row - 1])):
            raise StreamError(f"{at}: cannot read {value!r} as a time with {how}; {_time_cure(value)} in the mapping")
        if np.isnan(read):
            raise StreamError(f"{at}: the time is empty; drop or fill such rows")
        unit = "" if is_typed_time(column) else f"{_range_cure(value)}, or "
        odd = EARLIEST <= read < LATEST
        span = "in 1970 while others are years later" if odd else "no time between 1970 and 2100"
        raise StreamError(f"{at}: {value!r} with {how} is {span}; {unit}correct or drop such rows")

    def labels(self, rule: LabelRule, what: str = "label") -> NDArray[np.bool_]:
        """Mask of the rows that the rule selects; an empty cell is not selected. `what` is its key in the mapping.

        Raises StreamError for a rule that does not fit its column.
        """
        if rule.column is None:
            return np.ones(len(self), dtype=bool)
        if rule.at_least is not None:
            return np.asarray(self.numbers(rule.column, f"{what} with at_least") >= rule.at_least)
        infinite = _infinite(self.column(rule.column, what))
        if infinite.any():
            raise StreamError(
                f"{self.source}: column {rule.column!r} ({what}), row {_row(infinite)}: infinity is no {what}; "
                "correct it"
            )
        texts = pd.Series(self.texts(rule.column, what), dtype=object)
        if rule.among is not None:
            return texts.isin(rule.among).to_numpy(dtype=bool)
        lower = texts.str.lower()
        wrong = (texts.notna() & ~lower.isin(_TRUE | _FALSE)).to_numpy()
        if wrong.any():
            row = _row(wrong)
            raise StreamError(
                f"{self.source}: column {rule.column!r} ({what}), row {row}: {texts.iloc[row - 1]!r} is neither "
                f"0/1 nor true/false; add at_least or among to {what} in the mapping"
            )
        return lower.isin(_TRUE).to_numpy(dtype=bool)


def read_table(source: TableSource, folder: Path, path: Path | None = None) -> Table:
    """All files of a source concatenated; `path` overrides the source's own. Raises StreamError."""
    files = source_files(source, folder, path)
    wanted = path if path is not None else folder / source.path
    frame, untyped = read_frames(source, files)
    if not len(frame):
        raise StreamError(f"{wanted}: the table is empty")
    return Table(frame, str(wanted), untyped=untyped)


def source_files(source: TableSource, folder: Path, path: Path | None = None) -> list[Path]:
    """The files of a source, as `read_table` reads them. Raises StreamError where there are none."""
    if path is None and not source.path:
        raise StreamError(f"no log file is named: give one, or set interactions.path in the mapping below {folder}")
    wanted = path if path is not None else folder / source.path
    try:
        if path is not None and not path.exists():
            raise StreamError(f"{path}: no such file; name the log by its path")
        files = [wanted] if path is not None or wanted.is_file() else _matching(folder, source.path)
    except OSError as error:
        raise StreamError(f"{wanted}: {error.strerror or error}; correct the path") from error
    if not files:
        raise StreamError(f"{wanted}: no such file; {_missing_cure(folder)}")
    return files


def _matching(folder: Path, pattern: str) -> list[Path]:
    # Not by pathlib, which raises for a pattern from the root and for `**` within a name.
    return [folder / name for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True))]  # noqa: PTH207


def _missing_cure(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}: give the folder that the mapping's paths are relative to"
    found = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(found[:_NAMES]) + (", ..." if len(found) > _NAMES else "")
    return f"{folder} holds {listed or 'nothing'}: give another folder, or correct the path in the mapping"


def _plain(value: object) -> object:
    """The value as people write it: numpy's scalars name their type."""
    return value.item() if isinstance(value, np.generic) else value


def _time_cure(value: object) -> str:
    if is_nested(value):
        return "one value is wanted: name another column"
    if isinstance(value, bool | np.bool_):
        return "true and false are no times: name another column"
    if isinstance(value, time | timedelta):
        return "a time of day or a span has no date: name another column"
    if isinstance(value, str) and not np.isnan(parsed_seconds(np.array([value], dtype=object), None)[0]):
        return "it looks like ISO 8601: set time.unit to iso"
    return "set time.unit (s, ms, us, ns, iso) or time.format"


def _range_cure(value: object) -> str:
    stamp = numbers(pd.Series([value], dtype=object))[0]
    likely = [unit for unit, size in UNITS.items() if _RECENT <= stamp / size < LATEST]
    return f"it looks like {likely[0]}: set time.unit to {likely[0]}" if likely else "set time.unit in the mapping"


def _missing(texts: NDArray[np.object_]) -> NDArray[np.bool_]:
    return np.array([text is None for text in texts], dtype=bool)


def _infinite(column: pd.Series) -> NDArray[np.bool_]:
    """Infinity is spelled as missing, but in a number's column it is a fault and no gap."""
    if column.dtype == object:
        return np.array([isinstance(value, float) and np.isinf(value) for value in column.tolist()], dtype=bool)
    return np.isinf(column.to_numpy()) if pd.api.types.is_float_dtype(column.dtype) else np.zeros(len(column), bool)


def _row(wrong: NDArray[np.bool_]) -> int:
    """Number of the first wrong row, from 1, the header not counted."""
    return int(np.flatnonzero(wrong)[0]) + 1
