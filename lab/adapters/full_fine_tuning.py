"""Fine-tuning of the whole backbone or its dense parts, and a model that is trained on the live stream alone.

These are reference points: what a team would do that retrains its model from the stream.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.gradient import GradientAdapter
from lab.adapters.path import ClickPath, Plugs
from model.backbone.foundation import FoundationBackbone


class FullModel(nn.Module):
    """A copy of the backbone in which users and items of the stream have rows of their own.

    A user (item) that pretraining did not know starts from the out-of-vocabulary row the first time it is seen.
    """

    def __init__(self, context: AdapterContext, *, live: bool, scratch: bool) -> None:
        super().__init__()
        profiles = context.profiles
        self.net = _fresh(context) if scratch else copy.deepcopy(context.foundation)
        self.user_row = _own_rows(self.net.user_table, profiles.user)
        table = self.net.item_table
        self.item_row = profiles.item if table is None else _own_rows(table, profiles.item)
        if self.net.statistics is not None:
            self.net.statistics.widen(int((profiles.user == 0).sum()), int((profiles.item == 0).sum()))
        self.net.requires_grad_(True).eval()
        self._click, self._unplugged = ClickPath(self.net), Plugs()
        self.profiles = profiles
        self.live_map = nn.Linear(context.live_width, self.net.width) if live else None
        self.live_path = nn.Linear(context.live_width, 1) if live else None
        for layer in (self.live_map, self.live_path):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, batch: StreamBatch) -> Tensor:
        """Click logits of a batch, `(n,)`."""
        features = self.profiles.batch(batch.user, batch.item, batch.micro.domain)
        features = replace(features, user=self.user_row[batch.user], item=self.item_row[batch.item])
        x = self.net.represent(features)
        if self.live_map is None or self.live_path is None:
            return self._click(x, batch.micro.domain, self._unplugged)
        x = x + self.live_map(batch.micro.live)
        path: Tensor = self.live_path(batch.micro.live)[:, 0]
        return self._click(x, batch.micro.domain, self._unplugged) + path


def full_fine_tuning(
    context: AdapterContext, rate: float, *, live: bool = False, scratch: bool = False, dense_only: bool = False
) -> GradientAdapter:
    """Full fine-tuning, in its variants: with T as inputs, from scratch, without the ID tables."""
    model = FullModel(context, live=live, scratch=scratch)
    if dense_only:
        for table in (model.net.user_table, model.net.item_table):
            if table is not None:
                table.requires_grad_(False)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad and _reached(name)]
    slow = [p for name, p in trained if not name.startswith("live_path")]
    fast = [p for name, p in trained if name.startswith("live_path")]
    groups = [(slow, rate)] + ([(fast, context.training.linear_rate)] if fast else [])
    return GradientAdapter(groups, model, context.training, context.seed)


def _reached(name: str) -> bool:
    """Parameters of the conversion tower get no gradient from clicks."""
    return not name.startswith("net.towers.nets.1")


def _own_rows(table: nn.Embedding, row: Tensor) -> Tensor:
    """Widens a table by a copy of row 0 for each position that has no row of its own; returns the row per position."""
    unknown = torch.nonzero(row == 0)[:, 0]
    widened = row.clone()
    widened[unknown] = table.num_embeddings + torch.arange(len(unknown))
    weight = torch.cat([table.weight.detach(), table.weight.detach()[:1].expand(len(unknown), -1)])
    table.weight = nn.Parameter(weight.clone())
    table.num_embeddings = len(weight)
    return widened


def _fresh(context: AdapterContext) -> FoundationBackbone:
    """An untrained backbone of the same shape; content vectors are those of the trained one (T is made of them)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        trained = context.foundation
        return FoundationBackbone(trained.config, trained.shape, trained.encoder_digest)
