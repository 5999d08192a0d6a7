"""A log as a stream: rows become requests, tables become a catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.streams.logged.converted import conversion_delays
from lab.streams.logged.judged import judgements
from lab.streams.logged.log_profiles import make_items, make_users
from lab.streams.logged.mapping import FacetRule, LogMapping, load_mapping
from lab.streams.logged.movielens import PERIODS
from lab.streams.logged.negatives import with_negatives
from lab.streams.logged.rows import LogRows, log_chunk
from lab.streams.logged.tables import Table, read_table, source_files
from lab.streams.stream import NO_ITEM, Catalogue, Chunk, DriftSpan, Half, StreamError, rechunk
from model.config import MAX_QUERY, NO_QUERY
from model.encoding.domain import UNKNOWN, DomainSpace

_QUARTER = 21_600.0


@dataclass(frozen=True)
class LoggedStream:
    """A log that was read whole; both halves are slices of one chunk."""

    name: str
    catalogue: Catalogue
    log: Chunk
    split: int
    """Requests of the pretraining half."""
    rated: Chunk | None = None
    """The pretraining half with one item per row, where each item has a time of its own beside the request's."""
    drift_spans: tuple[DriftSpan, ...] = ()

    @property
    def converts(self) -> bool:
        """Whether the log has conversions."""
        return self.log.conversions is not None

    @property
    def searches(self) -> bool:
        """Whether requests of the log carry queries."""
        return self.log.query is not None

    @property
    def judges(self) -> bool:
        """Whether the log says how relevant items are to queries."""
        return self.log.relevance is not None

    def size(self, half: Half) -> int:
        """Number of requests of a half."""
        return self.split if half == "pretrain" else len(self.log) - self.split

    def chunks(self, half: Half, requests: int = 4096) -> Iterator[Chunk]:
        """The requests of a half in time order."""
        part = slice(0, self.split) if half == "pretrain" else slice(self.split, None)
        return rechunk(iter([self.log.rows(part)]), requests)

    def pretraining(self) -> Chunk:
        """The training data of a backbone: the first half, with the most precise times available."""
        return self.rated if self.rated is not None else self.log.rows(slice(0, self.split))


def open_log(mapping_path: Path, log: Path | None = None) -> LoggedStream:
    """The stream of a log and its mapping file. Raises StreamError, which names the file, the fault and the cure."""
    return read_log(load_mapping(mapping_path), mapping_path.parent, log)


def log_files(mapping_path: Path, log: Path | None = None) -> list[Path]:
    """All files that `open_log` reads, the mapping first. Raises StreamError."""
    mapping, folder = load_mapping(mapping_path), mapping_path.parent
    tables = [table for table in (mapping.users, mapping.items) if table is not None]
    files = source_files(mapping.interactions, folder, log)
    return [mapping_path, *files, *(file for table in tables for file in source_files(table, folder))]


def read_log(mapping: LogMapping, folder: Path, log: Path | None = None) -> LoggedStream:
    """The stream of a log; paths of the mapping are relative to `folder`."""
    rule = mapping.interactions
    table = read_table(rule, folder, log)
    users = read_table(mapping.users, folder) if mapping.users else None
    items = read_table(mapping.items, folder) if mapping.items else None
    user, time = table.ids(rule.user, "user"), table.times(rule.time)
    rows = LogRows(
        user=user,
        item=table.ids(rule.item, "item"),
        time=time,
        click=table.labels(rule.label),
        scene=_facet(rule.scene, table, user, mapping, users),
        region=_facet(rule.region, table, user, mapping, users),
        period=periods(time) if rule.period is None else _facet(rule.period, table, user, mapping, users),
        request=table.ids(rule.request, "request") if rule.request else None,
        query=_queries(table, rule.query) if rule.query else None,
    )
    if rule.conversion is not None:
        rows = replace(rows, converted=conversion_delays(rule.conversion, table, rows))
    if rule.relevance is not None and rows.query is not None:
        rows = replace(rows, relevance=judgements(rule.relevance, table, rows.query))
    return make_stream(mapping, rows, users, items, table.source)


def make_stream(
    mapping: LogMapping, rows: LogRows, user_table: Table | None, item_table: Table | None, source: str
) -> LoggedStream:
    """Requests, catalogue and halves from rows and side tables."""
    rate = rows.click.mean()
    if mapping.negatives is None and rate in (0.0, 1.0):
        cure = "correct the label rule" if rate == 0 else "correct the label rule, or add `negatives`"
        raise StreamError(f"{source}: {'no' if rate == 0 else 'every'} row is a click; {cure} in the mapping")
    users, items = make_users(mapping, rows, user_table), make_items(mapping, rows, item_table)
    space = DomainSpace({f: _kept(getattr(rows, f), mapping.facet_values) for f in ("scene", "region", "period")})
    catalogue = Catalogue(
        users=users,
        items=items,
        space=space,
        user_fields=mapping.users.specs() if mapping.users else (),
        item_fields=mapping.items.specs() if mapping.items else (),
        queries=() if rows.query is None else tuple(sorted({text for text in rows.query.tolist() if text})),
    )
    log = _requests(mapping, rows, catalogue)
    if mapping.negatives is not None:
        log = with_negatives(log, mapping.negatives, len(items))
    split = round(mapping.pretrain_share * len(log))
    if not 0 < split < len(log):
        raise StreamError(f"{source}: {len(log)} requests are too few for two halves")
    return LoggedStream(mapping.name, catalogue, log, split)


def periods(time: NDArray[np.float64]) -> NDArray[np.object_]:
    """Period of the day (six hours each, UTC) of event times."""
    return np.array(PERIODS, dtype=object)[(np.mod(time, 4 * _QUARTER) // _QUARTER).astype(np.int64)]


def _queries(table: Table, column: str) -> NDArray[np.object_]:
    """Query of each row, empty for a recommendation. Raises StreamError."""
    texts = [(text or "").strip() for text in table.texts(column, "query").tolist()]
    if not any(texts):
        raise StreamError(f"{table.source}: column {column!r} (query) is empty in every row; leave `query` out")
    longest = max(range(len(texts)), key=lambda row: len(texts[row]))
    if len(texts[longest]) > MAX_QUERY:
        raise StreamError(
            f"{table.source}: column {column!r} (query), row {longest + 1}: {len(texts[longest])} characters, a "
            f"request takes at most {MAX_QUERY}; cut it"
        )
    return np.array(texts, dtype=object)


def _facet(
    rule: FacetRule, table: Table, user: NDArray[np.object_], mapping: LogMapping, users: Table | None
) -> NDArray[np.object_]:
    if rule.value is not None:
        return np.full(len(table), rule.value, dtype=object)
    if rule.column is not None:
        values = table.texts(rule.column, "a domain facet")
    elif users is not None and mapping.users is not None and rule.user_column is not None:
        of_user = users.texts(rule.user_column, "a domain facet")
        known = dict(zip(users.ids(mapping.users.key, "key"), of_user, strict=True))
        values = np.array([known.get(u) for u in user], dtype=object)
    else:
        raise StreamError(f"{table.source}: a facet names user_column {rule.user_column!r}, but there is no user table")
    return np.array([UNKNOWN if value is None else value[: rule.first] for value in values], dtype=object)


def _kept(values: NDArray[np.object_], most: int) -> list[str]:
    """The commonest values, in order of their names."""
    return sorted(value for value, _ in Counter(values.tolist()).most_common(most) if value != UNKNOWN)


def _requests(mapping: LogMapping, rows: LogRows, catalogue: Catalogue) -> Chunk:
    """Rows in time order, cut into requests of one user."""
    user_index = {profile.user_id: n for n, profile in enumerate(catalogue.users)}
    user = np.array([user_index[u] for u in rows.user], dtype=np.int64)
    item_index = {profile.item_id: n for n, profile in enumerate(catalogue.items)}
    item = np.array([item_index[i] for i in rows.item], dtype=np.int64)
    request = np.zeros(len(user), np.int64) if rows.request is None else np.unique(rows.request, return_inverse=True)[1]
    query = _places(rows.query, catalogue.queries)
    order = np.lexsort((rows.time, request, user))
    user, item, request, time, click = user[order], item[order], request[order], rows.time[order], rows.click[order]
    pause = np.diff(time, prepend=time[0]) > mapping.gap_s if rows.request is None else np.zeros(len(user), dtype=bool)
    first = pause | (np.diff(user, prepend=-1) != 0) | (np.diff(request, prepend=-1) != 0)
    if query is not None:  # who asks for something else begins a new request
        first |= np.diff(query[order], prepend=NO_QUERY - 1) != 0
    run = np.cumsum(first) - 1
    within = np.arange(len(user)) - np.flatnonzero(first)[run]
    first |= within % mapping.shown == 0
    number = np.cumsum(first) - 1
    column = within % mapping.shown
    starts = np.flatnonzero(first)
    width = int(column.max()) + 1
    items = np.full((len(starts), width), NO_ITEM, dtype=np.int64)
    clicks = np.zeros((len(starts), width), dtype=bool)
    items[number, column], clicks[number, column] = item, click

    domain = np.stack([_codes(getattr(rows, f)[order][starts], catalogue.space.values[f]) for f in _FACETS], axis=1)
    asked = None if query is None else query[order][starts]
    converted, relevance = (
        None if values is None else _cells(values[order], number, column, items.shape)
        for values in (rows.converted, rows.relevance)
    )
    return log_chunk(time[starts], user[starts], domain, items, clicks, converted, asked, relevance)


def _cells(
    values: NDArray[np.float32], row: NDArray[np.int64], column: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """The values at their rows and columns, not-a-number everywhere else."""
    made = np.full(shape, np.nan, dtype=np.float32)
    made[row, column] = values
    return made


def _places(query: NDArray[np.object_] | None, queries: Sequence[str]) -> NDArray[np.int64] | None:
    """Positions of the rows' queries, `NO_QUERY` where there is none."""
    if query is None:
        return None
    place = {text: number for number, text in enumerate(queries)}
    return np.array([place.get(text, NO_QUERY) for text in query.tolist()], dtype=np.int64)


_FACETS = ("scene", "region", "period")


def _codes(values: NDArray[np.object_], known: Sequence[str]) -> NDArray[np.int64]:
    index = {value: n for n, value in enumerate(known)}
    return np.array([index.get(value, 0) for value in values], dtype=np.int64)
