"""Target statistics: how much more than usual a user, an item, a field value or a facet value was clicked.

A value's rate is shrunk towards the overall rate (Micci-Barreca, SIGKDD Explorations 2001); taking log-odds is ours.
With `s` clicks among `n` examples of the value, the overall click rate `m`, and `k` examples' worth of trust in `m`,

    p = (s + k m) / (n + k),    statistic = ln(p / (1 - p)) - ln(m / (1 - m)),    in nats.

A value without examples and row 0 of every table have a statistic of 0. Beside them stands the user's `.3 ln(1 + n)`,
because frequent users click differently from rare ones. In training, an example sees the statistics of the other blocks
of time, so that none of them contains its own label; a frozen backbone holds the statistics of the whole pretraining
half (docs/decisions/0066).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from model.backbone.dataset import TrainingData
from model.backbone.shape import BackboneShape
from model.config import ITEM_ASPECTS
from model.encoding.domain import FACETS
from model.encoding.features import FeatureBatch, FeatureEncoder

BLOCKS = 5
"""Number of time blocks of the pretraining half, with equally many examples each."""
STRENGTH = 5.0
_COUNT_SCALE = 0.3
"""Brings `ln(1 + n)` to the order of the statistics."""
_ROWS_AT_ONCE = 8_192


class TargetStatistics(nn.Module):
    """One statistic per row of the user, item and sparse tables and per facet value, for each of `blocks` blocks."""

    user_fields: Tensor
    item_fields: Tensor

    def __init__(self, shape: BackboneShape, blocks: int = 1, item_aspects: Collection[str] = ITEM_ASPECTS) -> None:
        """`item_aspects` decides which statistics of an item exist: those that `id` and `sparse` name."""
        super().__init__()
        item = {"item": shape.items} if "id" in item_aspects else {}
        fields = {"item_sparse": shape.item_rows} if "sparse" in item_aspects else {}
        self.sizes = {
            "user": shape.users,
            "user_sparse": shape.user_rows,
            **item,
            **fields,
            **dict(zip(FACETS, shape.domain_sizes, strict=True)),
        }
        self.user_width = 2 + len(shape.user_slots) + len(FACETS)
        """Number of columns of user and domain, which come first."""
        self.width = self.user_width + len(item) + (len(shape.item_slots) if fields else 0)
        """Number of columns of an example."""
        for table, rows in (*self.sizes.items(), ("user_count", shape.users)):
            self.register_buffer(table, torch.zeros(blocks, rows))
        self.register_buffer("user_fields", _membership(shape.user_slots), persistent=False)
        self.register_buffer("item_fields", _membership(shape.item_slots), persistent=False)

    def forward(self, batch: FeatureBatch, block: Tensor | None = None) -> Tensor:
        """Statistics of the pairs, `(n, width)`; `block` is each pair's block, int64 `(n,)`, if there are several."""
        return torch.cat([self.of_users(batch, block).expand(len(batch), -1), *self._of_items(batch, block)], dim=1)

    def of_users(self, batch: FeatureBatch, block: Tensor | None = None) -> Tensor:
        """Statistics of users and domains alone, `(u, user_width)`."""
        user = [self._of(table, batch.user[:, None], block) for table in ("user", "user_count")]
        user.append((self._of("user_sparse", batch.user_sparse, block) * batch.user_weight) @ self.user_fields)
        user += [self._of(facet, batch.domain[:, at, None], block) for at, facet in enumerate(FACETS)]
        return torch.cat(user, dim=1)

    def of_items(self, batch: FeatureBatch) -> Tensor:
        """Statistics of items alone, `(n, width - user_width)`."""
        return torch.cat([batch.text.new_zeros(len(batch), 0), *self._of_items(batch, None)], dim=1)

    def _of_items(self, batch: FeatureBatch, block: Tensor | None) -> list[Tensor]:
        item = [self._of("item", batch.item[:, None], block)] if "item" in self.sizes else []
        if "item_sparse" in self.sizes:
            item.append((self._of("item_sparse", batch.item_sparse, block) * batch.item_weight) @ self.item_fields)
        return item

    def _of(self, table: str, rows: Tensor, block: Tensor | None) -> Tensor:
        values = self.get_buffer(table)
        # `take` by position in the flat table is one operation, where indexing needs several per request.
        return torch.take(values, rows if block is None else rows + block[:, None] * values.shape[1])

    def widen(self, users: int, items: int) -> None:
        """Appends rows of zeros, for tables that are widened after pretraining."""
        more = {"user": users, "user_count": users, **({"item": items} if "item" in self.sizes else {})}
        for table, rows in more.items():
            values = self.get_buffer(table)
            setattr(self, table, torch.cat([values, values.new_zeros(len(values), rows)], dim=1))


def _membership(slots: Sequence[int]) -> Tensor:
    """Which field each slot belongs to, 0 or 1, `(slots, fields)`."""
    return torch.eye(len(slots)).repeat_interleave(torch.tensor(slots, dtype=torch.int64), dim=0)


@dataclass(frozen=True)
class FittedStatistics:
    """The statistics of `n` examples."""

    whole: TargetStatistics
    """Statistics of all examples: these are served, and later examples see these."""
    out_of_fold: TargetStatistics
    """For each block, the statistics of all other blocks."""
    block: Tensor
    """The block of each example, int64 `(n,)`."""

    def of(self, batch: FeatureBatch, index: Tensor) -> Tensor:
        """Out-of-fold statistics of the examples `index`, int64 `(m,)`, `(m, width)`: without their own block."""
        seen: Tensor = self.out_of_fold(batch, self.block[index])
        return seen

    def columns(self, data: TrainingData) -> Tensor:
        """Out-of-fold statistics of all `n` examples, `(n, width)`."""
        parts = torch.split(torch.arange(len(data)), _ROWS_AT_ONCE)
        return torch.cat([self.of(data.batch(index), index) for index in parts])

    @torch.no_grad()
    def behind(self, old: TargetStatistics, new: Mapping[str, Tensor]) -> FittedStatistics:
        """These statistics for the rows that are `new`, bool `(rows,)` by table, and those of `old` for all others."""
        for table in (*old.sizes, "user_count"):
            before = old.get_buffer(table)
            rows = new.get(table, torch.zeros(before.shape[1], dtype=torch.bool))
            for fitted in (self.whole, self.out_of_fold):
                values = fitted.get_buffer(table)
                values.copy_(torch.where(rows, values, before))
        return self

    def served(self, data: TrainingData) -> Tensor:
        """Statistics of all `n` examples, as later pairs see them, `(m, width)`."""
        parts = torch.split(torch.arange(len(data)), _ROWS_AT_ONCE)
        return torch.cat([self.whole(data.batch(index)) for index in parts])


@torch.no_grad()
def fit_statistics(
    shape: BackboneShape,
    encoder: FeatureEncoder,
    data: TrainingData,
    click_rate: float | None = None,
    item_aspects: Collection[str] = ITEM_ASPECTS,
) -> FittedStatistics:
    """Counts examples and clicks of every row in each block of time. `data` must be in order of time.

    A value's rate is compared with `click_rate`, or with that of `data` if it is None.
    """
    whole, others = (TargetStatistics(shape, blocks, item_aspects) for blocks in (1, BLOCKS))
    block = torch.arange(len(data)) * BLOCKS // max(len(data), 1)
    shown = {table: torch.zeros(BLOCKS, rows, dtype=torch.float64) for table, rows in whole.sizes.items()}
    clicked = {table: torch.zeros_like(counts) for table, counts in shown.items()}
    for index in torch.split(torch.arange(len(data)), _ROWS_AT_ONCE):
        for table, rows, present in _rows_of(data.batch(index)):
            if table not in whole.sizes:
                continue
            at = (block[index, None] * whole.sizes[table] + rows)[present]
            label = data.label[index, None].double().expand_as(rows)[present]
            shown[table].view(-1).index_add_(0, at, torch.ones_like(label))
            clicked[table].view(-1).index_add_(0, at, label)
    examples = torch.bincount(block, minlength=BLOCKS).double()
    clicks = torch.zeros_like(examples).index_add_(0, block, data.label.double())
    rate, rates = _rate(examples.sum(), clicks.sum()), _rate(examples.sum() - examples, clicks.sum() - clicks)
    if click_rate is not None:
        rate, rates = torch.full_like(rate, click_rate), torch.full_like(rates, click_rate)
    for table, known in _known_rows(encoder, whole.sizes).items():
        n, s = shown[table], clicked[table]
        _set(whole, table, n.sum(0, keepdim=True), s.sum(0, keepdim=True), rate, known)
        _set(others, table, n.sum(0) - n, s.sum(0) - s, rates, known)
    users, known = shown["user"], _known_rows(encoder, whole.sizes)["user"]
    whole.get_buffer("user_count").copy_(_log_count(users.sum(0, keepdim=True)) * known)
    # The other blocks hold one block less; without this scale every count would be larger in serving than in training.
    others.get_buffer("user_count").copy_(_log_count((users.sum(0) - users) * (BLOCKS / (BLOCKS - 1))) * known)
    return FittedStatistics(whole, others, block)


def _rows_of(batch: FeatureBatch) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Table name, rows `(n, slots)` and a mask of the rows that are there, for each table."""
    yield "user", batch.user[:, None], torch.ones_like(batch.user[:, None], dtype=torch.bool)
    yield "user_sparse", batch.user_sparse, batch.user_weight > 0
    yield "item", batch.item[:, None], torch.ones_like(batch.item[:, None], dtype=torch.bool)
    yield "item_sparse", batch.item_sparse, batch.item_weight > 0
    for at, facet in enumerate(FACETS):
        rows = batch.domain[:, at, None]
        yield facet, rows, torch.ones_like(rows, dtype=torch.bool)


def _known_rows(encoder: FeatureEncoder, sizes: dict[str, int]) -> dict[str, Tensor]:
    """1 for every row that stands for a known value, 0 for unknown or missing ones, `(rows,)` per table."""
    unknown = {table: [0] for table in sizes}
    for table, fields in (("user_sparse", encoder.user_fields), ("item_sparse", encoder.item_fields)):
        unknown[table] = list(accumulate((field.rows for field in fields), initial=0))[:-1]
    known = {}
    for table, rows in sizes.items():
        known[table] = torch.ones(rows, dtype=torch.float64)
        known[table][unknown[table]] = 0.0
    return known


def _rate(examples: Tensor, clicks: Tensor) -> Tensor:
    """Overall click rate as a column, smoothed so that it is never 0 or 1."""
    return ((clicks + 1.0) / (examples + 2.0)).reshape(-1, 1)


def _log_count(n: Tensor) -> Tensor:
    return _COUNT_SCALE * torch.log1p(n)


def _set(into: TargetStatistics, table: str, n: Tensor, s: Tensor, rate: Tensor, known: Tensor) -> None:  # noqa: PLR0917
    p = (s + STRENGTH * rate) / (n + STRENGTH)
    into.get_buffer(table).copy_((torch.logit(p) - torch.logit(rate)) * known)
