"""Public data sets that hold clicks alone: MicroLens and NineRec. Negatives are drawn.

Each function raises StreamError naming the file that is missing or not in the format its makers publish.
"""

from __future__ import annotations

from pathlib import Path

from lab.streams.logged.columns import LATEST
from lab.streams.logged.logs import LoggedStream, read_log
from lab.streams.logged.mapping import Interactions, LogMapping, Negatives, SideTable, TimeRule
from lab.streams.logged.read import first_rows
from lab.streams.stream import StreamError
from model.encoding.spelling import read_number

_PAIR = 3  # cells of a line of NineRec's pairs: user, item and timestamp


def microlens(folder: Path) -> LoggedStream:
    """MicroLens (50k, 100k, 1M): `*_pairs.csv` (user, item, timestamp in ms) and titles."""
    titles = _single_file(folder, ("*_title_en.csv", "*_titles.csv", "*_title*.csv"), "titles")
    first = first_rows(titles, 1)
    headed = bool(first) and first[0][:1] != [] and first[0][0].strip().lower().startswith("item")
    mapping = LogMapping(
        name="microlens",
        interactions=Interactions(
            path=_single_file(folder, ("*_pairs.csv",), "interactions").name,
            user="user",
            item="item",
            time=TimeRule(column="timestamp", unit="ms"),
        ),
        items=SideTable(path=titles.name, columns=() if headed else ("item", "title"), key="item", text=("title",)),
        negatives=Negatives(),
    )
    return read_log(mapping, folder)


def ninerec(folder: Path) -> LoggedStream:
    """NineRec (one of its sets): `*_pair.csv` (user, item, timestamp), `*_item.csv` (Chinese, English text)."""
    pairs = _single_file(
        folder, ("*_pair.csv",), "interactions with timestamps (QB and TN are published without: no stream)"
    )
    texts = _single_file(folder, ("*_item.csv",), "item texts")
    rows = first_rows(pairs, 2)
    if not rows:
        raise StreamError(f"{pairs}: the file is empty")
    if any(len(row) < _PAIR or not row[2] for row in rows):
        raise StreamError(f"{pairs}: three columns are needed, user, item and timestamp; QB and TN have no timestamps")
    headed = read_number(rows[0][2]) is None
    user, item, time = rows[0][:_PAIR] if headed else ("user", "item", "timestamp")
    stamp = read_number(rows[-1][2])
    mapping = LogMapping(
        name="ninerec",
        interactions=Interactions(
            path=pairs.name,
            columns=() if headed else (user, item, time),
            user=user,
            item=item,
            time=TimeRule(column=time, unit="ms" if stamp is not None and stamp > LATEST else "s"),
        ),
        items=SideTable(path=texts.name, columns=("item", "chinese", "english"), key="item", text=("english",)),
        negatives=Negatives(),
    )
    return read_log(mapping, folder)


def _single_file(folder: Path, patterns: tuple[str, ...], description: str) -> Path:
    for pattern in patterns:
        matching = sorted(folder.glob(pattern))
        if matching:
            return matching[0]
    raise StreamError(f"{folder}: no file {' or '.join(patterns)} with the {description}")
