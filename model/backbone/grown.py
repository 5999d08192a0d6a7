"""Growing a frozen backbone: rows for users, items and field values that came later, and for one new scene.

Old rows keep their values. A new user or item starts as the out-of-vocabulary row (row 0), a new field value as its
field's unknown value, the new scene as the mean of the declared scenes (our choice). The target statistics of new rows
are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from model.backbone.foundation import FoundationBackbone
from model.backbone.methods.scenes import BackboneWithScenes, make_with_scenes
from model.backbone.shape import BackboneShape
from model.encoding.features import FeatureEncoder
from model.encoding.vocabulary import OOV, FieldEncoder

_TABLES = {
    "user_table.weight": "user",
    "item_table.weight": "item",
    "user_sparse.table.weight": "user_sparse",
    "item_sparse.table.weight": "item_sparse",
    "domain_embedding.tables.0.weight": "scene",
    "domain_layer.tables.0.weight": "scene",
}
"""How the rows of each table of the model grow; the first facet is the scene."""
_STATISTICS = {
    "statistics.user": "user",
    "statistics.user_count": "user",
    "statistics.item": "item",
    "statistics.user_sparse": "user_sparse",
    "statistics.item_sparse": "item_sparse",
    "statistics.scene": "scene",
}
"""How the rows of the target statistics grow, which lie side by side in one matrix."""


@dataclass(frozen=True)
class GrownRows:
    """Which old row each row of a grown table starts from."""

    origin: Tensor
    """The old row that each row starts from, int64 `(rows,)`."""
    new: Tensor
    """Which rows are new, bool `(rows,)`."""

    @staticmethod
    def behind(before: int, after: int) -> GrownRows:
        """New rows are appended to the old ones, each starting from row 0."""
        row = torch.arange(after)
        return GrownRows(torch.where(row < before, row, OOV), row >= before)

    @staticmethod
    def of_fields(before: Sequence[FieldEncoder], after: Sequence[FieldEncoder]) -> GrownRows:
        """The fields of a sparse table are stored one after the other, so each field grows in its own place."""
        starts = accumulate((field.rows for field in before), initial=0)
        parts = [GrownRows.behind(old.rows, now.rows) for old, now in zip(before, after, strict=True)]
        if not parts:
            return GrownRows.behind(0, 0)
        origins = [part.origin + start for part, start in zip(parts, starts, strict=False)]
        return GrownRows(torch.cat(origins), torch.cat([part.new for part in parts]))


@dataclass(frozen=True)
class GrownBackbone:
    """A grown model, not frozen yet."""

    model: FoundationBackbone
    scene: int
    """Index of the new scene, the last."""
    new: dict[str, Tensor]
    """Which rows are new, bool `(rows,)`, by the names of the target statistics' tables; unchanged tables are left
    out."""


@torch.no_grad()
def grow(backbone: FoundationBackbone, before: FeatureEncoder, after: FeatureEncoder) -> GrownBackbone:
    """A copy of `backbone` for the grown encoder `after` and for one more scene.

    Raises ValueError if `before` is not the encoder that the backbone was trained with.
    """
    if before.digest != backbone.encoder_digest:
        raise ValueError("this encoder is not the one the backbone was pretrained with")
    scene, region, period = backbone.shape.domain_sizes
    shape = replace(BackboneShape.of(after, backbone.shape.domain_sizes), domain_sizes=(scene + 1, region, period))
    rows, state = _rows(before, after, scene), backbone.state_dict()
    for name in _TABLES.keys() & state.keys():
        state[name] = state[name][rows[_TABLES[name]].origin]
    for name in _STATISTICS.keys() & state.keys():
        row = rows[_STATISTICS[name]]
        state[name] = torch.where(row.new, 0.0, state[name][:, row.origin])
    _adopt_scene([state[name] for name in _TABLES if _TABLES[name] == "scene" and name in state])
    entries = backbone.entries if isinstance(backbone, BackboneWithScenes) else ()
    model = make_with_scenes(backbone.config, shape, after.digest, entries)
    model.load_state_dict(state)
    new = {name.removeprefix("statistics."): rows[table].new for name, table in _STATISTICS.items() if name in state}
    return GrownBackbone(model.requires_grad_(False), scene, new)


def _rows(before: FeatureEncoder, after: FeatureEncoder, scenes: int) -> dict[str, GrownRows]:
    return {
        "user": GrownRows.behind(len(before.users), len(after.users)),
        "item": GrownRows.behind(len(before.items), len(after.items)),
        "user_sparse": GrownRows.of_fields(before.user_fields, after.user_fields),
        "item_sparse": GrownRows.of_fields(before.item_fields, after.item_fields),
        "scene": GrownRows.behind(scenes, scenes + 1),
    }


def _adopt_scene(tables: Sequence[Tensor]) -> None:
    """Sets the last row to the mean of the other declared scenes' rows (row 0 is `unknown`)."""
    for table in tables:
        declared = table[1:-1] if len(table) > 2 else table[:1]
        table[-1] = declared.mean(0)
