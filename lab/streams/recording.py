"""The data of a replay: profiles, a first half to pretrain on, and live requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from features.profiles import ItemProfile, UserProfile
from lab.streams.request import Request
from lab.streams.stream import Catalogue, Chunk, DriftSpan, Half, Stream, requests
from model.encoding.domain import DomainSpace

if TYPE_CHECKING:
    from model.backbone.examples import Examples


class Profiles(Protocol):
    """The users and items of a recording."""

    @property
    def users(self) -> Sequence[UserProfile]:
        """Every user that the recording names."""

    @property
    def items(self) -> Sequence[ItemProfile]:
        """Every item that the recording names."""


class Recording:
    """A stream as it is pretrained on and played: profiles, a first half to learn from, and live requests by name."""

    def __init__(self, stream: Stream, title: str) -> None:
        self.stream = stream
        self.title = title

    @property
    def catalogue(self) -> Catalogue:
        """Users, items, and the fields and domains that a configuration has to declare."""
        return self.stream.catalogue

    @property
    def users(self) -> tuple[UserProfile, ...]:
        """All users that may occur."""
        return self.catalogue.users

    @property
    def items(self) -> tuple[ItemProfile, ...]:
        """All items that may occur."""
        return self.catalogue.items

    @property
    def drift_spans(self) -> tuple[DriftSpan, ...]:
        """The script's changes and their times; empty for a log."""
        return self.stream.drift_spans

    def examples(self, space: DomainSpace) -> Examples:
        """The shown items of the first half with the labels as they were logged, in time order; `n` examples.

        Indices point into `users` and `items`; domains are those of `space`.
        """
        from model.backbone.examples import Examples

        chunk = self._first_half
        row, column = np.nonzero(chunk.shown)
        return Examples(
            user=chunk.user[row],
            item=chunk.items[row, column],
            domain=recoded(chunk.domain, self.catalogue.space, space)[row],
            label=chunk.click[row, column].astype(np.float32),
            time=chunk.time[row],
            **chunk.more_labels(row, column),
        )

    def identity(self) -> Iterator[bytes]:
        """All data that decide what is learned from the first half, so that equal bytes mean an equal backbone.

        These are profiles, fields, domains, queries and the first half itself; later requests do not matter.
        """
        catalogue, chunk = self.catalogue, self._first_half
        for profile in (*self.users, *self.items):
            yield repr(profile).encode()
        fields = [spec.model_dump() for spec in (*catalogue.user_fields, *catalogue.item_fields)]
        yield json.dumps([fields, catalogue.space.values, catalogue.queries]).encode()
        for values in chunk.training_columns:
            yield np.ascontiguousarray(values).tobytes()

    def requests(self, half: Half) -> list[Request]:
        """The requests of a half by names."""
        return list(requests(self.stream, half))

    @cached_property
    def _first_half(self) -> Chunk:
        return self.stream.pretraining()


def recoded(domain: NDArray[np.int64], source: DomainSpace, space: DomainSpace) -> NDArray[np.int64]:
    """Facet indices `(r, 3)` of `own` as those of `space`."""
    known, index = np.unique(domain, axis=0, return_inverse=True)
    return space.encode_many([source.decode(row) for row in known])[index.reshape(-1)]
