"""Names of sources and targets: a stream, or the part of it with a given value in one field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.fine_tuning.origin import TransferRefused
from lab.streams import Chunk, StreamError, find_script
from lab.streams.logged.movielens_stream import MOVIELENS_STREAMS
from lab.streams.sources import Source, movielens_source
from lab.streams.stream import Catalogue
from model.encoding.domain import FACETS
from model.encoding.spelling import FieldValue, spell_list
from model.near_names import did_you_mean

_MOST_LISTED = 12
"""Values of a field that an error lists."""


@dataclass(frozen=True)
class StreamPart:
    """`STREAM`, or `STREAM:FIELD=VALUE`; not opened yet."""

    name: str
    """Display name: without the stream's name if it is the source's own stream."""
    stream: Source
    field: str = ""
    value: str = ""

    def same(self, other: StreamPart) -> bool:
        """Whether both mean the same examples."""
        return (self.stream.name, self.field, self.value) == (other.stream.name, other.field, other.value)


def parts_of(source: str, targets: Sequence[str], log: Source | None = None) -> tuple[StreamPart, list[StreamPart]]:
    """Source and targets by name; a target without a stream is a part of the source's own. `log` is what else there is.

    Raises TransferRefused, which names what is wrong.
    """
    first = _part(source, None, log)
    others = [_part(target, first.stream, log) for target in targets]
    if not others:
        raise TransferRefused("--targets names no target")
    for place, part in enumerate(others):
        if part.same(first):
            raise TransferRefused(
                f"target {targets[place]!r} is the source itself: name another part, or another stream"
            )
        if any(part.same(other) for other in others[:place]):
            raise TransferRefused(f"target {targets[place]!r} is named twice: leave one out")
    if log is not None and all(part.stream is not log for part in (first, *others)):
        raise TransferRefused(f"neither --source nor --targets names the log: it is called {log.name!r} here")
    return first, others


def _part(text: str, source: Source | None, log: Source | None) -> StreamPart:
    head, equals, value = text.strip().partition("=")
    stream, _, field = head.rpartition(":") if equals else (head, "", "")
    if (equals and not (field and value)) or not (stream or source):
        raise TransferRefused(f"{text!r} names no part of a stream: write STREAM or STREAM:FIELD=VALUE")
    named = _stream(stream, log) if stream else source
    assert named is not None
    return StreamPart(text.strip(), named, field, value)


def _stream(name: str, log: Source | None) -> Source:
    if log is not None and name == log.name:
        return log
    if name in MOVIELENS_STREAMS:
        return movielens_source(name)
    try:
        script = find_script(name)
    except StreamError as error:
        more = f", and {log.name} by --log" if log is not None else ""
        near = did_you_mean(name, MOVIELENS_STREAMS)
        raise TransferRefused(
            f"no stream {name!r}: there are {', '.join(MOVIELENS_STREAMS)}{more}{near}; {error}"
        ) from error
    return Source(script.name, script=script)


@dataclass(frozen=True)
class Members:
    """The members of a part: masks over a stream's users and items."""

    users: NDArray[np.bool_]
    """Mask of the catalogue's users, `(users,)`; `items` likewise."""
    items: NDArray[np.bool_]
    facet: int = 0
    index: int = -1
    """Facet and its value that requests must have; -1 for any."""

    def cells(self, chunk: Chunk) -> NDArray[np.bool_]:
        """Mask of a chunk's shown items that belong to the part, `(r, k)`."""
        requests = self.users[chunk.user]
        if self.index >= 0:
            requests = requests & (chunk.domain[:, self.facet] == self.index)
        return np.asarray(chunk.shown & requests[:, None] & self.items[chunk.items])


def members(part: StreamPart, catalogue: Catalogue) -> Members:
    """The part in a stream's catalogue. Raises TransferRefused for a field or a value that the stream does not have."""
    users = np.ones(len(catalogue.users), dtype=bool)
    items = np.ones(len(catalogue.items), dtype=bool)
    of_items, of_users = ([spec.name for spec in specs] for specs in (catalogue.item_fields, catalogue.user_fields))
    if not part.field:
        return Members(users, items)
    if part.field in of_items:
        return Members(users, _having(part, [item.fields for item in catalogue.items]))
    if part.field in of_users:
        return Members(_having(part, [user.fields for user in catalogue.users]), items)
    if part.field in FACETS:
        values = catalogue.space.values[part.field][1:]
        if part.value not in values:
            raise _no_value(part, values)
        return Members(users, items, FACETS.index(part.field), 1 + values.index(part.value))
    raise TransferRefused(
        f"{part.stream.name} has no field {part.field!r}: its items have {', '.join(of_items) or 'none'}, its users "
        f"{', '.join(of_users) or 'none'}, and its requests {', '.join(FACETS)}"
    )


def _having(part: StreamPart, profiles: Sequence[Mapping[str, FieldValue]]) -> NDArray[np.bool_]:
    values = [spell_list(fields.get(part.field)) for fields in profiles]
    found = np.array([part.value in held for held in values], dtype=bool)
    if not found.any():
        raise _no_value(part, sorted({value for held in values for value in held}))
    return found


def _no_value(part: StreamPart, values: Sequence[str]) -> TransferRefused:
    listed = ", ".join(values[:_MOST_LISTED]) + (", .." if len(values) > _MOST_LISTED else "")
    return TransferRefused(
        f"{part.name!r}: {part.field} of {part.stream.name} is never {part.value!r}; it is {listed or 'nothing at all'}"
    )
