"""A plain PyTorch DeepFM as the frozen backbone: `backbone.factory = "docs/examples/custom_backbone.py:deepfm"`.

DeepFM (Guo et al., IJCAI 2017): a first-order term, a factorisation machine and a deep net on shared embeddings. To
carry a kernel it is cut in two: `represent` ends where the embeddings are concatenated, `predict` is the rest.
`driftline pretrain` calls `deepfm`, then `fit`; every process calls `deepfm` and loads the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from model.backbone.dataset import TrainingData
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig, PretrainConfig
from model.encoding.features import FeatureBatch

WIDTH = 12


class DeepFM(nn.Module):
    """Four fields: user, item, scene and text, each an embedding of `width` numbers."""

    def __init__(self, users: int, items: int, scenes: int, text_width: int, width: int = WIDTH) -> None:
        super().__init__()
        self.width = width
        self.user = nn.Embedding(users, width)
        self.item = nn.Embedding(items, width)
        self.scene = nn.Embedding(scenes, width)
        self.text = nn.Linear(text_width, width)
        self.first_order = nn.Linear(4 * width, 1)
        self.deep = nn.Sequential(nn.Linear(4 * width, 32), nn.ReLU(), nn.Linear(32, 1))
        for table in (self.user, self.item, self.scene):
            nn.init.normal_(table.weight, std=0.05)

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

    def fit(self, train: TrainingData, validation: TrainingData, config: PretrainConfig) -> None:
        """Your own training goes here; this is the shortest that works. It leaves `validation` to the report."""
        del validation
        optimiser = torch.optim.Adam(self.parameters(), lr=config.learning_rate)
        for _ in range(config.epochs):
            for index in torch.randperm(len(train)).split(config.batch_size):
                batch = train.batch(index)
                logits = self.predict(self.represent(batch), batch.domain)
                loss = binary_cross_entropy_with_logits(logits, train.label[index])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()


def deepfm(config: BackboneConfig, shape: BackboneShape) -> DeepFM:
    """The untrained module: `shape` has the rows of the tables, row 0 of each is for what pretraining never saw."""
    return DeepFM(shape.users, shape.items, shape.domain_sizes[0], config.text_width)
