"""Prepares source and targets: one catalogue for all, the source's training data, and each target's data.

Learning uses the pretraining half of a stream, for source and targets alike; its live half is used for measuring. Data
that belong to a target are removed from the source, so that pretraining has not seen them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.fine_tuning.origin import TransferRefused
from lab.streams import Chunk, Stream
from lab.streams.recording import recoded
from lab.streams.stream import NO_ITEM, Catalogue, DriftSpan, Half, rechunk
from lab.transfer.parts import Members, StreamPart, members
from model.config import ItemAspect

FEWEST = 100
"""Examples that the source and each half of a target must have."""


@dataclass(frozen=True)
class PartedStream:
    """A stream of two chunks over one catalogue; implements `Stream`."""

    name: str
    catalogue: Catalogue
    pretrain: Chunk
    live: Chunk | None = None
    drift_spans: tuple[DriftSpan, ...] = ()
    converts: bool = False
    searches: bool = False
    judges: bool = False

    def _half(self, half: Half) -> Chunk:
        chunk = self.pretrain if half == "pretrain" else self.live
        assert chunk is not None
        return chunk

    def size(self, half: Half) -> int:
        """Number of requests of a half (`Stream.size`)."""
        return len(self._half(half))

    def chunks(self, half: Half, requests: int = 4096) -> Iterator[Chunk]:
        """The requests of a half, in order (`Stream.chunks`)."""
        return rechunk(iter([self._half(half)]), requests)

    def pretraining(self) -> Chunk:
        """The examples for pretraining (`Stream.pretraining`)."""
        return self.pretrain


@dataclass(frozen=True)
class Target:
    """Data of one target, in the source's indices and domains; its scene is unknown there."""

    name: str
    train: Chunk
    test: Chunk
    items: NDArray[np.int64]
    """Indices of its whole catalogue."""


@dataclass(frozen=True)
class TransferTask:
    """One source and its targets, for one seed."""

    source: PartedStream
    targets: tuple[Target, ...]


def open_task(
    source: StreamPart, targets: Sequence[StreamPart], seed: int, cache_dir: Path, aspects: Sequence[ItemAspect]
) -> TransferTask:
    """The streams of a seed, divided. `aspects` is what the backbone knows an item by.

    Raises TransferRefused for parts that hold too little, or that share nothing; StreamError or DataUnavailableError.
    """
    streams: dict[str, Stream] = {}
    for part in (source, *targets):
        if part.stream.name not in streams:
            streams[part.stream.name] = part.stream.open(seed, cache_dir)
    joined = _joined(streams, source.stream.name)
    stream = streams[source.stream.name]
    mine = members(source, stream.catalogue)
    taken = [members(part, stream.catalogue) for part in targets if part.stream.name == stream.name]
    first = _all_of(stream, "pretrain")
    cells = mine.cells(first)
    for other in taken:
        cells &= ~other.cells(first)
    pretrain = _kept(first, cells)
    _ensure_enough(pretrain, f"source {source.name!r}, without what belongs to the targets,", "to pretrain on")
    ready = tuple(_target(part, streams[part.stream.name], joined) for part in targets)
    for target in ready:
        _ensure_related(target, source, pretrain, joined.catalogue, aspects)
    return TransferTask(PartedStream(source.name, joined.catalogue, pretrain), ready)


@dataclass(frozen=True)
class _Joined:
    """Catalogues of several streams, concatenated."""

    catalogue: Catalogue
    starts: dict[str, tuple[int, int]]
    """First index of the users and of the items of each stream."""


def _joined(streams: dict[str, Stream], source: str) -> _Joined:
    """The source's catalogue, then the others'. An id means something in its own stream alone: others get a prefix."""
    first = streams[source].catalogue
    users, items, starts = list(first.users), list(first.items), {source: (0, 0)}
    for name, stream in streams.items():
        if name != source:
            starts[name] = len(users), len(items)
            users += [replace(user, user_id=f"{name}/{user.user_id}") for user in stream.catalogue.users]
            items += [replace(item, item_id=f"{name}/{item.item_id}") for item in stream.catalogue.items]
    return _Joined(replace(first, users=tuple(users), items=tuple(items)), starts)


def _target(part: StreamPart, stream: Stream, joined: _Joined) -> Target:
    belongs, (_, first_item) = members(part, stream.catalogue), joined.starts[part.stream.name]
    train, test = _part_of(stream, "pretrain", belongs), _part_of(stream, "live", belongs)
    for half, why in ((train, "to learn from"), (test, "to be tried on")):
        _ensure_enough(half, f"target {part.name!r}", why)
    train, test = (_in_joined(half, part, stream, joined) for half in (train, test))
    if not ((test.clean_click & test.shown).any(1) & (~test.clean_click & test.shown).any(1)).any():
        raise TransferRefused(f"target {part.name!r}: no request of its second half holds both labels")
    return Target(part.name, train, test, first_item + np.flatnonzero(belongs.items))


def _in_joined(half: Chunk, part: StreamPart, stream: Stream, joined: _Joined) -> Chunk:
    """A half of the target with users, items and domains numbered as in the joined catalogue; its scene is unknown."""
    first_user, first_item = joined.starts[part.stream.name]
    domain = recoded(half.domain, stream.catalogue.space, joined.catalogue.space)
    domain[:, 0] = 0
    shown = np.where(half.shown, half.items + first_item, NO_ITEM)
    return replace(half, user=half.user + first_user, items=shown, domain=domain)


def _part_of(stream: Stream, half: Half, belongs: Members) -> Chunk:
    chunk = _all_of(stream, half)
    return _kept(chunk, belongs.cells(chunk))


def _all_of(stream: Stream, half: Half) -> Chunk:
    return Chunk.concat(list(stream.chunks(half)))


def _kept(chunk: Chunk, cells: NDArray[np.bool_]) -> Chunk:
    """The requests that hold some of `cells`, `(r, k)`, with those alone."""
    part = replace(
        chunk,
        items=np.where(cells, chunk.items, NO_ITEM),
        click=chunk.click & cells,
        clean_click=chunk.clean_click & cells,
        conversions=None,
        query=None,
        relevance=None,
    )
    return part.rows(np.flatnonzero(cells.any(axis=1)))


def _ensure_enough(chunk: Chunk, description: str, why: str) -> None:
    examples, clicks = int(chunk.shown.sum()), int(chunk.click.sum())
    if examples < FEWEST or not 0 < clicks < examples:
        raise TransferRefused(
            f"{description} has {examples:,} examples {why}, {clicks:,} of them clicks: at least {FEWEST} of both "
            "kinds are needed; name a larger part"
        )


def _ensure_related(
    target: Target, source: StreamPart, pretrain: Chunk, catalogue: Catalogue, aspects: Sequence[ItemAspect]
) -> None:
    """Raises TransferRefused if source and target share none of the aspects by which the backbone knows items."""
    seen = np.unique(pretrain.items[pretrain.shown])
    old, new = [catalogue.items[item] for item in seen], [catalogue.items[item] for item in target.items]
    fields = {spec.name for spec in catalogue.item_fields}
    shared: dict[ItemAspect, bool] = {
        "id": bool(np.isin(target.items, seen).any()),
        "text": any(item.text for item in old) and any(item.text for item in new),
        "sparse": bool(fields & {name for item in new for name in item.fields}),
    }
    if not any(shared[aspect] for aspect in aspects):
        raise TransferRefused(
            f"target {target.name!r} has nothing in common with source {source.name!r} by which an item is known "
            f"(backbone.item_aspects: {', '.join(aspects)}): no item, no text and none of the fields "
            f"{', '.join(sorted(fields)) or '(the source has none)'}"
        )
