"""Reading CSV, TSV, JSON lines and Parquet as text columns, with errors that name file, column and cure."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.streams.logged.mapping import Format, LabelRule, TableSource, TimeRule
from lab.streams.stream import StreamError

_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6}
_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}
_ENDINGS: dict[str, Format] = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip


class Table:
    """Columns of text (lists where JSON or Parquet hold lists), and the name errors give to where they came from."""

    def __init__(self, frame: pd.DataFrame, source: str) -> None:
        self.frame = frame
        self.source = source

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str, purpose: str) -> pd.Series:
        """A column. Raises StreamError naming the columns there are."""
        if name not in self.frame.columns:
            known = ", ".join(map(str, self.frame.columns))
            raise StreamError(f"{self.source}: no column {name!r} for {purpose}; the columns are {known}")
        return self.frame[name]

    def ids(self, name: str, purpose: str) -> NDArray[np.object_]:
        """Identifiers as text. Raises StreamError for an empty one."""
        column = self.column(name, purpose)
        missing = column.isna() | (column.astype(str) == "")
        if missing.any():
            raise StreamError(
                f"{self.source}: column {name!r} ({purpose}) is empty in row {_row(missing)}; drop or fill such rows"
            )
        return column.astype(str).to_numpy(dtype=object)

    def numbers(self, name: str, purpose: str) -> NDArray[np.float64]:
        """Numbers. Raises StreamError for anything else."""
        column = self.column(name, purpose)
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = numbers.isna()
        if wrong.any():
            raise StreamError(
                f"{self.source}: column {name!r} ({purpose}), row {_row(wrong)}: {column[wrong].iloc[0]!r} is no number"
            )
        return numbers.to_numpy(dtype=np.float64)

    def times(self, rule: TimeRule) -> NDArray[np.float64]:
        """Seconds since the epoch. Raises StreamError for a time that cannot be read."""
        column = self.column(rule.column, "time")
        if rule.format is None and rule.unit != "iso":
            numbers = pd.to_numeric(column, errors="coerce")
            seconds = np.asarray(numbers.to_numpy(dtype=np.float64) / _UNITS[rule.unit], dtype=np.float64)
            wrong = numbers.isna()
        else:
            parsed = pd.to_datetime(column, format=rule.format or "ISO8601", errors="coerce", utc=True)
            wrong = parsed.isna()
            seconds = np.asarray((parsed - pd.Timestamp(0, tz="UTC")).dt.total_seconds(), dtype=np.float64)
        if wrong.any():
            how = f"format {rule.format!r}" if rule.format else f"unit {rule.unit!r}"
            raise StreamError(
                f"{self.source}: column {rule.column!r}, row {_row(wrong)}: cannot read {column[wrong].iloc[0]!r} as a "
                f"time with {how}; set time.unit (s, ms, us, iso) or time.format in the mapping"
            )
        return seconds

    def labels(self, rule: LabelRule) -> NDArray[np.bool_]:
        """Which rows are clicks. Raises StreamError for a rule that does not fit its column."""
        if rule.column is None:
            return np.ones(len(self), dtype=bool)
        if rule.at_least is not None:
            return np.asarray(self.numbers(rule.column, "label with at_least") >= rule.at_least)
        text = self.column(rule.column, "label").astype(str)
        if rule.among is not None:
            return text.isin(rule.among).to_numpy(dtype=bool)
        lower = text.str.lower()
        wrong = ~lower.isin(_TRUE | _FALSE)
        if wrong.any():
            raise StreamError(
                f"{self.source}: column {rule.column!r} (label), row {_row(wrong)}: {text[wrong].iloc[0]!r} is neither "
                f"0/1 nor true/false; add at_least or among to label in the mapping"
            )
        return lower.isin(_TRUE).to_numpy(dtype=bool)


def read_table(source: TableSource, folder: Path, path: Path | None = None) -> Table:
    """All files of a source below each other; `path` wins over the source's own. Raises StreamError."""
    if path is None and not source.path:
        raise StreamError(f"no log file is named: give one, or set interactions.path in the mapping below {folder}")
    wanted = path if path is not None else folder / source.path
    files = [wanted] if path is not None or wanted.is_file() else sorted(folder.glob(source.path))
    if not files:
        raise StreamError(f"{wanted}: no such file")
    frames = [_read(source, file) for file in files]
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    if not len(frame):
        raise StreamError(f"{wanted}: the table is empty")
    return Table(frame, str(wanted))


def _read(source: TableSource, file: Path) -> pd.DataFrame:
    kind = source.format or _format(file)
    try:
        if kind == "parquet":
            return pd.read_parquet(file)
        if kind == "jsonl":
            return pd.read_json(file, lines=True, dtype=False, convert_dates=False, encoding=source.encoding)
        delimiter = source.delimiter or ("\t" if kind == "tsv" else ",")
        return pd.read_csv(
            file,
            sep=delimiter,
            names=list(source.columns) or None,
            header=None if source.columns else "infer",
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            encoding=source.encoding,
            engine="python" if len(delimiter) > 1 else "c",
            quoting=csv.QUOTE_NONE if kind == "tsv" else csv.QUOTE_MINIMAL,
        )
    except OSError as error:
        raise StreamError(f"{file}: {error.strerror or error}") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise StreamError(f"{file}: cannot be read as {kind}: {error}; set `format` in the mapping") from error


def _format(file: Path) -> Format:
    name = file.name.removesuffix(".gz")
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    raise StreamError(f"{file}: unknown ending; set `format` in the mapping to csv, tsv, jsonl or parquet")


def _row(wrong: pd.Series) -> int:
    """Number of the first wrong row, from 1, the header not counted."""
    return int(np.flatnonzero(wrong.to_numpy())[0]) + 1
