"""Reads CSV, TSV, JSON lines and Parquet as data frames without changing any value."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import msgspec
import pandas as pd
import pyarrow.parquet

from lab.streams.files import file_errors, open_text, packed_name, without_mark, zero_cure
from lab.streams.logged.mapping import Format, TableSource
from lab.streams.stream import StreamError

_ENDINGS: dict[str, Format] = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip


def read_frames(source: TableSource, files: list[Path]) -> tuple[pd.DataFrame, bool]:
    """All files concatenated, and whether they are untyped text. Raises StreamError."""
    kinds = [source.format or _format(file) for file in files]
    frames = [_read(source, file, kind) for file, kind in zip(files, kinds, strict=True)]
    if len(frames) > 1:
        # If one file has gaps and another none, their types differ; objects keep integers as integers.
        frames = [frame.astype(object) for frame in frames]
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    return frame, all(kind in ("csv", "tsv") for kind in kinds)


def first_rows(file: Path, count: int, encoding: str = "utf-8") -> list[list[str]]:
    """The first lines of a CSV file as cells, header included. Raises StreamError."""
    with file_errors(file, "csv", encoding), open_text(file, encoding) as lines:
        return list(itertools.islice((row for row in csv.reader(lines) if row), count))


def _read(source: TableSource, file: Path, kind: Format) -> pd.DataFrame:
    cure = (
        "fetch or write it again, or set `format`"
        if kind == "parquet"
        else "correct it, or set `delimiter` or `format`"
    )
    with file_errors(file, kind, source.encoding, cure):
        if file.is_dir():
            raise StreamError(f"{file}: a folder: name a file, or a pattern (part-*.csv) as `path` in the mapping")
        if file.exists() and not file.is_file():
            raise StreamError(
                f"{file}: a pipe or a device, which can be read only once; save it as a file and name that"
            )
        if file.stat().st_size == 0:
            raise StreamError(f"{file}: the file is empty")
        frame = _READERS[kind](source, file)
        twice = [name for name, count in Counter(frame.columns).items() if count > 1]
        if twice:
            raise StreamError(f"{file}: two columns are called {twice[0]!r}; rename one")
        return frame


def _read_parquet(_source: TableSource, file: Path) -> pd.DataFrame:
    # Without pandas' own metadata, an index is a column like any other. Integers with gaps remain integers.
    names = pyarrow.parquet.read_schema(file).names
    if len(set(names)) != len(names):
        raise StreamError(f"{file}: two columns are called {max(names, key=names.count)!r}; rename one")
    table = pyarrow.parquet.read_table(file)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    coded = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(coded, object))


def _read_jsonl(source: TableSource, file: Path) -> pd.DataFrame:
    records: list[dict[str, object]] = []
    with open_text(file, source.encoding) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            record = _json(line, file, number)
            if not isinstance(record, dict):
                raise StreamError(f"{file}, line {number}: expected one JSON object per line, with its columns as keys")
            records.append(record)
    return pd.DataFrame(records, dtype=object)  # of objects: no number goes through a float


def _json(line: str, file: Path, number: int) -> object:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(line)  # also takes NaN and Infinity, as Python and pandas write them
    except (ValueError, RecursionError) as error:
        cure = "one object per line is wanted: correct or drop it"
        raise StreamError(f"{file}, line {number}: not JSON: {error}; {cure}") from error


def _read_text(source: TableSource, file: Path) -> pd.DataFrame:
    tabs = (source.format or _format(file)) == "tsv"
    delimiter = source.delimiter or ("\t" if tabs else ",")
    plain = len(delimiter.encode()) == 1
    _check_text(source, file, delimiter)
    try:
        return pd.read_csv(
            file,
            sep=delimiter if plain or delimiter == r"\s+" else re.escape(delimiter),  # pandas takes a pattern
            names=list(source.columns) or None,
            header=None if source.columns else "infer",
            index_col=False,  # else a line with one cell more than the header shifts all columns in silence
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            encoding=without_mark(source.encoding),
            engine="c" if plain else "python",
            quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        )
    except pd.errors.EmptyDataError:
        raise StreamError(f"{file}: the table is empty") from None


def _check_text(source: TableSource, file: Path, delimiter: str) -> None:
    """Refuses what pandas alters in silence: it cuts a cell at a zero byte, and renames a column that comes twice."""
    with open_text(file, source.encoding) as lines:
        header = "" if source.columns else lines.readline()
        names = next(csv.reader([header], delimiter=delimiter), []) if len(delimiter) == 1 else header.split(delimiter)
        twice = [name for name, count in Counter(name.strip() for name in names).items() if count > 1 and name]
        if twice:
            raise StreamError(f"{file}: two columns are called {twice[0]!r}; rename one")
        for number, line in enumerate(itertools.chain([header], lines), 2 if source.columns else 1):
            if "\0" in line:
                raise StreamError(f"{file}, line {number - bool(source.columns)}: holds a zero byte; {zero_cure(file)}")


_READERS = {"csv": _read_text, "tsv": _read_text, "jsonl": _read_jsonl, "parquet": _read_parquet}


def _format(file: Path) -> Format:
    name = file.name.lower().removesuffix(".gz")
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    unknown = "unknown ending; set `format` in the mapping to csv, tsv, jsonl or parquet"
    raise StreamError(f"{file}: {packed_name(file) or unknown}")
