"""A plain PyTorch DeepFM as the frozen backbone: what to write, and what comes back.

DeepFM (Guo et al., IJCAI 2017): a first-order term, a factorisation machine and a deep net on shared embeddings. To
carry a kernel it is cut in two: `represent` ends where the embeddings are concatenated, `predict` is the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from model.backbone.wrap import WrappedBackbone
from model.encoding.features import FeatureBatch


class DeepFM(nn.Module):
    """Four fields: user, item, domain and text, each an embedding of `width` numbers."""

    def __init__(self, users: int, items: int, domains: int, text_width: int, width: int = 12) -> None:
        super().__init__()
        self.width = width
        self.user = nn.Embedding(users, width)
        self.item = nn.Embedding(items, width)
        self.scene = nn.Embedding(domains, width)
        self.text = nn.Linear(text_width, width)
        self.first_order = nn.Linear(4 * width, 1)
        self.deep = nn.Sequential(nn.Linear(4 * width, 32), nn.ReLU(), nn.Linear(32, 1))

    def represent(self, batch: FeatureBatch) -> Tensor:
        """All embeddings side by side, `(n, 4 * width)`. One user may come with many items: expand."""
        n = len(batch)
        user = self.user(batch.user).expand(n, -1)
        scene = self.scene(batch.domain[:, 0]).expand(n, -1)
        return torch.cat([user, self.item(batch.item), scene, self.text(batch.text)], dim=1)

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """Click logits, `(n,)`. The domain is in `x` already, so it is not used again."""
        fields = x.view(len(x), 4, self.width)
        pairs = 0.5 * (fields.sum(1).square() - fields.square().sum(1)).sum(1)
        logits: Tensor = self.first_order(x)[:, 0] + pairs + self.deep(x)[:, 0]
        return logits


def train(model: DeepFM, batch: FeatureBatch, label: Tensor, steps: int = 50) -> None:
    """Your own training goes here; this is the shortest that works."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        logits = model.predict(model.represent(batch), batch.domain)
        loss = binary_cross_entropy_with_logits(logits, label)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def as_backbone(model: DeepFM, probe: FeatureBatch) -> WrappedBackbone:
    """Checked, frozen and fingerprinted: hand it to `Learner`, `Representer` or `live_logit` like another."""
    return WrappedBackbone(model, probe)
