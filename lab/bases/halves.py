"""A stream's two halves as a base sees them: labelled pairs to train on, and pairs to be tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.streams.recording import Recording
from lab.streams.stream import Chunk
from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.examples import Examples
from model.backbone.shape import BackboneShape
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures


@dataclass(frozen=True)
class Halves:
    """Pairs and encoding of both halves, the same for every base and baseline."""

    train: TrainingData
    test: TrainingData
    request: NDArray[np.int64]
    """Number of the request of each pair of `test`, `(n,)`."""
    encoder: FeatureEncoder
    shape: BackboneShape

    @staticmethod
    def of(recording: Recording, encoder: FeatureEncoder, items: Sequence[ItemFeatures]) -> Halves:
        """`encoder` has the vocabularies of the first half. Labels of the live half are what users really did."""
        stream, space = recording.stream, recording.catalogue.space
        chunk = Chunk.concat(list(stream.chunks("live")))
        row, column = np.nonzero(chunk.shown)
        live = Examples(
            user=chunk.user[row],
            item=chunk.items[row, column],
            domain=chunk.domain[row],
            label=chunk.clean_click[row, column].astype(np.float32),
            time=chunk.time[row],
        )
        users = [UserFeatures(user.user_id, user.fields) for user in recording.users]
        profiles = ProfileTable(encoder, users, items)
        train = TrainingData.of(recording.examples(space), profiles)
        shape = BackboneShape.of(encoder, space.sizes)
        return Halves(train, TrainingData.of(live, profiles), row.astype(np.int64), encoder, shape)

    def within_train(self, share: float) -> Halves:
        """The first half cut once more: its last `share` by time is what is tried."""
        n = len(self.train)
        cut = min(max(round(n * (1 - share)), 1), n - 1)
        request = np.arange(n - cut, dtype=np.int64)
        return replace(self, train=self.train.part(0, cut), test=self.train.part(cut, n), request=request)


@dataclass(frozen=True)
class Field:
    """One categorical column: the rows and weights of each of `n` pairs, both `(n, slots)`."""

    name: str
    rows: Tensor
    weight: Tensor
    size: int
    """Rows of its table; 0 is what is unknown or missing."""


def fields_of(halves: Halves, data: TrainingData) -> list[Field]:
    """User, item, their fields and the facets of all pairs of `data`."""
    profiles, encoder = data.profiles, halves.encoder
    unit_weight = torch.ones(len(data), 1)
    fields = [
        Field("user", profiles.user[data.user][:, None], unit_weight, halves.shape.users),
        Field("item", profiles.item[data.item][:, None], unit_weight, halves.shape.items),
    ]
    for side, encoders, rows, weight, at in (
        ("user", encoder.user_fields, profiles.user_sparse, profiles.user_weight, data.user),
        ("item", encoder.item_fields, profiles.item_sparse, profiles.item_weight, data.item),
    ):
        first = slot = 0
        for field in encoders:
            here = slice(slot, slot + field.slots)
            name = f"{side}.{field.spec.name}"
            fields.append(Field(name, rows[at][:, here] - first, weight[at][:, here], field.rows))
            first, slot = first + field.rows, slot + field.slots
    for facet, size in enumerate(halves.shape.domain_sizes):
        fields.append(Field(f"facet {facet}", data.domain[:, facet, None], unit_weight, size))
    return fields


def cross(first: Field, second: Field) -> Field:
    """Pairs of a row of each."""
    n = len(first.rows)
    rows = first.rows[:, :, None] * second.size + second.rows[:, None, :]
    weight = first.weight[:, :, None] * second.weight[:, None, :]
    return Field(f"{first.name} x {second.name}", rows.view(n, -1), weight.view(n, -1), first.size * second.size)
