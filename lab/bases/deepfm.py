"""Plain DeepFM (Guo et al., IJCAI 2017) on user, item, their fields and the facets; no statistics, no domain layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lab.bases.halves import Field, Halves, fields_of
from model.backbone.optimisers import AdamW
from model.evaluation import log_loss, sigmoid

WIDTH, HIDDEN, DROPOUT = 8, 64, 0.1
BATCH, RATE, DECAY, MOST_PASSES, PATIENCE = 512, 1e-3, 1e-4, 12, 2
_START, _HELD_OUT = 0.01, 0.1
_ROWS_AT_ONCE = 8_192


class PlainDeepFM(nn.Module):
    """First-order weights, a factorisation machine and a deep net on shared embeddings, one per field."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Embedding(size, 1) for size in sizes)
        self.tables = nn.ModuleList(nn.Embedding(size, WIDTH) for size in sizes)
        self.deep = nn.Sequential(
            nn.Linear(WIDTH * len(sizes), HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN // 2), nn.ReLU(), nn.Linear(HIDDEN // 2, 1),
        )  # fmt: skip
        for table in (*self.first, *self.tables):
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=_START)

    def forward(self, fields: Sequence[Field], index: Tensor) -> Tensor:
        """Click logits `(m,)` of the pairs `index`, `(m,)`."""
        picked = [(field.rows[index], field.weight[index][..., None]) for field in fields]
        first = sum((t(rows) * weight).sum((1, 2)) for t, (rows, weight) in zip(self.first, picked, strict=True))
        vectors = [(t(rows) * weight).sum(1) for t, (rows, weight) in zip(self.tables, picked, strict=True)]
        stacked = torch.stack(vectors, dim=1)
        pairs = 0.5 * (stacked.sum(1).square() - stacked.square().sum(1)).sum(1)
        logits: Tensor = first + pairs + self.deep(stacked.flatten(1))[:, 0]
        return logits


def deepfm_logits(halves: Halves, seed: int) -> NDArray[np.float64]:
    """Click logits of the live half, `(n,)`: the passes that are best on the newest tenth, then again on all."""
    with torch.random.fork_rng(devices=[]):
        passes, _ = _fit(halves.within_train(_HELD_OUT), MOST_PASSES, seed, stops=True)
        _, model = _fit(halves, passes, seed, stops=False)
    return _logits(model, fields_of(halves, halves.test)).numpy().astype(np.float64)


def _fit(halves: Halves, passes: int, seed: int, *, stops: bool) -> tuple[int, PlainDeepFM]:
    """The model after its last pass, and the number of its best one; `stops` when that is some passes ago."""
    torch.manual_seed(seed)
    fields, label = fields_of(halves, halves.train), halves.train.label
    test, truth = fields_of(halves, halves.test), halves.test.label.numpy()
    model = PlainDeepFM([field.size for field in fields])
    optimiser = AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    best, least = passes, math.inf
    for number in range(1, passes + 1):
        model.train()
        for index in torch.split(torch.randperm(len(label)), BATCH):
            loss = binary_cross_entropy_with_logits(model(fields, index), label[index])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if not stops:
            continue
        loss_now = log_loss(truth, sigmoid(_logits(model, test).numpy()))
        if loss_now < least:
            best, least = number, loss_now
        if number - best >= PATIENCE:
            break
    return best, model


@torch.no_grad()
def _logits(model: PlainDeepFM, fields: Sequence[Field]) -> Tensor:
    model.eval()
    return torch.cat([model(fields, part) for part in torch.split(torch.arange(len(fields[0].rows)), _ROWS_AT_ONCE)])
