"""The common form of streams: a catalogue, chunks of requests in time order, and the spans of drift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from features.profiles import ItemProfile, UserProfile
from lab.streams.conversions import Conversions
from lab.streams.request import Request
from model.config import NO_QUERY, FieldSpec
from model.encoding.domain import Domain, DomainSpace

Half = Literal["pretrain", "live"]
NO_ITEM = -1


class StreamError(Exception):
    """A script, a log or its mapping is wrong; the message names the file, the fault and the cure."""


@dataclass(frozen=True)
class Catalogue:
    """All users and items that may occur in a stream; chunks hold indices into these tuples."""

    users: tuple[UserProfile, ...]
    items: tuple[ItemProfile, ...]
    space: DomainSpace
    user_fields: tuple[FieldSpec, ...] = ()
    item_fields: tuple[FieldSpec, ...] = ()
    queries: tuple[str, ...] = ()
    """All queries that may occur; chunks hold indices."""


@dataclass(frozen=True, slots=True)
class DriftSpan:
    """A stretch of event time in which one scripted event is at work."""

    name: str
    kind: str
    start: float
    """Event time at which it begins, seconds since the epoch."""
    end: float
    """Event time at which it ends; the end of the stream if it stays."""
    full: float
    """Event time from which it works at full strength (later than `start` for a gradual one)."""
    domain: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Facets and values it is confined to; empty for all domains."""
    returns: bool = False
    """Whether an old regime comes back at `end` before the stream is over."""


@dataclass(frozen=True)
class Chunk:
    """`r` requests in time order, each with up to `k` shown items (`NO_ITEM` fills short rows)."""

    time: NDArray[np.float64]
    """Event time of the request, seconds since the epoch, `(r,)`."""
    user: NDArray[np.int64]
    """Position in `Catalogue.users`, `(r,)`."""
    domain: NDArray[np.int64]
    """Facet indices of the catalogue's `DomainSpace`, `(r, 3)`."""
    items: NDArray[np.int64]
    """Positions in `Catalogue.items`, best shown first, `(r, k)`."""
    click: NDArray[np.bool_]
    """The label as it was logged, `(r, k)`."""
    clean_click: NDArray[np.bool_]
    """What the user really did; differs from `click` only if a script corrupts labels, `(r, k)`."""
    probability: NDArray[np.float32]
    """True click probability, `(r, k)`; nan where nobody knows it (a log)."""
    delay: NDArray[np.float32]
    """Seconds from the request to the feedback, `(r, k)`."""
    conversions: Conversions | None = None
    """Conversions of the clicks; None for a stream without them."""
    query: NDArray[np.int64] | None = None
    """Position in `Catalogue.queries`, `NO_QUERY` for a recommendation, `(r,)`; None where nobody asks for anything."""
    relevance: NDArray[np.float32] | None = None
    """How relevant an item is to the request's query, from 0 to 1, nan where nobody judged it, `(r, k)`; None for a
    stream without judgements."""

    def __len__(self) -> int:
        return int(self.time.shape[0])

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Mask of the cells that hold an item, `(r, k)`."""
        return np.asarray(self.items != NO_ITEM)

    @property
    def converted(self) -> NDArray[np.bool_] | None:
        """The conversions as they were logged, `(r, k)`: one whose click is not in the log does not count."""
        return None if self.conversions is None else np.asarray(self.conversions.happened & self.click)

    @property
    def logged_delays(self) -> NDArray[np.float32] | None:
        """Seconds from the click to the conversion as it was logged, nan where there was none, `(r, k)`."""
        if self.conversions is None or self.converted is None:
            return None
        return np.where(self.converted, self.conversions.delay, np.float32(np.nan))

    @property
    def training_columns(self) -> list[NDArray[Any]]:
        """All columns that a backbone is trained on, so that equal columns mean an equal backbone."""
        columns: list[NDArray[Any]] = [self.time, self.user, self.domain, self.items, self.click]
        return columns + [one for one in (self.converted, self.query, self.relevance) if one is not None]

    def rows(self, part: slice | NDArray[np.int64]) -> Chunk:
        """The requests of `part`."""
        conversions = None if self.conversions is None else self.conversions.rows(part)
        columns = {name: value[part] for name, value in self._arrays().items()}
        return Chunk(**columns, conversions=conversions)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that the chunk has, by name."""
        return {f.name: value for f in _columns() if (value := getattr(self, f.name)) is not None}

    def more_labels(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The columns of `Examples` that not every stream has, for the cells at `row` and `column`, `(n,)` each."""
        cells = {"conversion": self.converted, "relevance": self.relevance}
        labels: dict[str, NDArray[Any]] = {
            name: value[row, column].astype(np.float32) for name, value in cells.items() if value is not None
        }
        return labels if self.query is None else labels | {"query": self.query[row]}

    def query_of(self, row: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """The queries of the requests `row`, `(n,)`; None where nobody asks for anything."""
        return None if self.query is None else self.query[row]

    @staticmethod
    def concat(chunks: list[Chunk]) -> Chunk:
        """All requests of `chunks`, in order. Raises ValueError for an empty list."""
        if not chunks:
            raise ValueError("cannot join zero chunks")
        known = [chunk.conversions for chunk in chunks if chunk.conversions is not None]
        parts = [chunk._arrays() for chunk in chunks]
        return Chunk(
            **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
            conversions=Conversions.concat(known) if known else None,
        )


def _columns() -> list[Field[Any]]:
    """The fields of a chunk that are arrays, some of which a stream may lack."""
    return [column for column in fields(Chunk) if column.name != "conversions"]


class Stream(Protocol):
    """A source of requests: the `pretrain` half comes first in time, then the `live` half."""

    @property
    def name(self) -> str:
        """Short name for tables and files."""

    @property
    def catalogue(self) -> Catalogue:
        """Users, items, fields and domains."""

    @property
    def drift_spans(self) -> tuple[DriftSpan, ...]:
        """The script's changes and their times; empty for a log."""

    def size(self, half: Half) -> int:
        """Number of requests of a half."""

    def chunks(self, half: Half, requests: int = 4096) -> Iterator[Chunk]:
        """The requests of a half, in time order, `requests` at a time (the last chunk may be shorter)."""

    def pretraining(self) -> Chunk:
        """The training data of a backbone: the pretraining half, with the most precise times available."""

    @property
    def converts(self) -> bool:
        """Whether its chunks know of conversions."""

    @property
    def searches(self) -> bool:
        """Whether some of its requests carry a query."""

    @property
    def judges(self) -> bool:
        """Whether it says of some items how relevant they are to the query."""


def requests(stream: Stream, half: Half) -> Iterator[Request]:
    """The requests of a half, one by one, for a replay."""
    users, items, values = stream.catalogue.users, stream.catalogue.items, stream.catalogue.space.values
    (scene, region, period), queries = values.values(), stream.catalogue.queries
    for chunk in stream.chunks(half):
        shown, conversions = chunk.shown, chunk.logged_delays
        for row in range(len(chunk)):
            cells = np.flatnonzero(shown[row])
            s, r, p = chunk.domain[row]
            yield Request(
                time=float(chunk.time[row]),
                user_id=users[chunk.user[row]].user_id,
                domain=Domain(scene[s], region[r], period[p]),
                items=tuple(items[i].item_id for i in chunk.items[row, cells]),
                clicks=tuple(bool(c) for c in chunk.click[row, cells]),
                delays=tuple(float(d) for d in chunk.delay[row, cells]),
                conversions=() if conversions is None else _known(conversions[row, cells]),
                query="" if chunk.query is None or chunk.query[row] == NO_QUERY else queries[chunk.query[row]],
            )


def _known(delays: NDArray[np.float32]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(delay) else float(delay) for delay in delays)


def rechunk(blocks: Iterator[Chunk], requests_per_chunk: int) -> Iterator[Chunk]:
    """The same requests in chunks of the given size. Raises ValueError if it is below one."""
    if requests_per_chunk < 1:
        raise ValueError(f"a chunk needs at least one request, not {requests_per_chunk}")
    held: list[Chunk] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count < requests_per_chunk:
            continue
        joined = Chunk.concat(held)
        whole = count - count % requests_per_chunk
        for start in range(0, whole, requests_per_chunk):
            yield joined.rows(slice(start, start + requests_per_chunk))
        held, count = ([joined.rows(slice(whole, None))], count - whole) if count > whole else ([], 0)
    if held:
        yield Chunk.concat(held)
