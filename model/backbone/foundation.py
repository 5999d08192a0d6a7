"""The foundation backbone: aspects, statistics, fusion, domain layer, trunk and towers; trained once, then frozen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from model.backbone.dataset import TrainingData
from model.backbone.encoders.user_encoder import UserEncoder
from model.backbone.first_order import regress
from model.backbone.fusion import AspectFusion, DomainEmbedding, DomainLayer
from model.backbone.interface import fingerprint, round_representation
from model.backbone.query_encoder import QueryEncoder
from model.backbone.shape import BackboneShape
from model.backbone.statistics import FittedStatistics, TargetStatistics
from model.backbone.trunk import Towers, Trunk
from model.config import BackboneConfig
from model.encoding.features import FeatureBatch
from model.encoding.history import History


class SparseAspect(nn.Module):
    """Mean embedding per field, all fields side by side, mapped to width d."""

    def __init__(self, rows: int, slots: tuple[int, ...], width: int, width_out: int) -> None:
        super().__init__()
        self.slots = slots
        self.table = nn.Embedding(rows, width)
        self.map = nn.Linear(width * len(slots), width_out)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Rows and weights `(m, S)` to `(m, d)`."""
        embedded = self.table(rows) * weight[..., None]
        out: Tensor = self.map(torch.cat([part.sum(1) for part in embedded.split(self.slots, dim=1)], dim=-1))
        return out


def _sparse_aspect(rows: int, slots: tuple[int, ...], config: BackboneConfig) -> SparseAspect | None:
    return SparseAspect(rows, slots, config.sparse_width, config.width) if slots else None


class FoundationBackbone(nn.Module):
    """Implements `FrozenBackbone`. `represent` needs the tables; `predict` needs only trunk and towers."""

    content_mean: Tensor
    content_map: Tensor
    content_shift: Tensor

    def __init__(self, config: BackboneConfig, shape: BackboneShape, encoder_digest: str = "") -> None:
        super().__init__()
        self.config, self.shape, self.encoder_digest = config, shape, encoder_digest
        self.width, self.content_width = config.width, config.content_width
        self.has_conversion, self.has_relevance = config.tasks == "ctr_ctcvr", config.relevance_weight > 0
        d, e = config.width, config.domain_width
        self.domain_embedding = DomainEmbedding(shape.domain_sizes, e)
        self.user_table = nn.Embedding(shape.users, config.id_width)
        aspects = config.item_aspects
        self.item_table = nn.Embedding(shape.items, config.id_width) if "id" in aspects else None
        self.user_id = nn.Linear(config.id_width, d)
        self.item_id = nn.Linear(config.id_width, d) if "id" in aspects else None
        self.item_text: nn.Module | None = nn.Linear(config.text_width, d) if "text" in aspects else None
        self.user_sparse = _sparse_aspect(shape.user_rows, shape.user_slots, config)
        self.item_sparse = _sparse_aspect(shape.item_rows, shape.item_slots if "sparse" in aspects else (), config)
        self.user_encoder = UserEncoder(config) if config.history.length else None
        self.query = QueryEncoder(config) if config.query_aspects else None
        user_aspects = 1 + (self.user_sparse is not None) + (self.user_encoder is not None)
        item_aspects = sum(layer is not None for layer in (self.item_id, self.item_text, self.item_sparse))
        self.user_fusion = AspectFusion(config.gating, user_aspects, d, e)
        self.item_fusion = self._item_fusion(config, item_aspects)
        self.statistics = TargetStatistics(shape, item_aspects=aspects) if config.target_statistics else None
        self._add_head(config)
        self.register_buffer("content_mean", torch.zeros(item_aspects * d))
        self.register_buffer("content_map", torch.zeros(item_aspects * d, config.content_width))
        self.register_buffer("content_shift", torch.zeros(config.content_width))
        for table in (self.user_table, self.item_table):
            # Statistics already bring the rates; with a large start, one pass would memorise ids (docs/decisions/0067).
            if table is not None:
                nn.init.normal_(table.weight, std=0.05 if self.statistics is None else 0.01)
        self._fingerprint = ""

    def _item_fusion(self, config: BackboneConfig, aspects: int) -> AspectFusion:
        return AspectFusion(config.gating, aspects, config.width, config.domain_width)

    def _add_head(self, config: BackboneConfig) -> None:
        """Adds the modules between the fused vectors and the logits."""
        d, e, tasks = config.width, config.domain_width, self.tasks
        if config.trunk == "dssm":
            raise ValueError("two towers are another class: make them with make_foundation")
        fused = 3 * d + sum(part.width for part in (self.query, self.statistics) if part is not None)
        self.domain_layer = DomainLayer(
            config.domain_map, fused, d - 1 if self.statistics else d, e, self.shape.domain_sizes
        )
        self.first_order = nn.Linear(self.statistics.width, 1) if self.statistics else None
        self.experts = Trunk(
            config.trunk, tasks + self.has_relevance, d, e, experts=config.experts, hidden=config.expert_hidden,
            width_out=config.expert_width, dropout=config.dropout,
        )  # fmt: skip
        self.towers = Towers(tasks, config.expert_width, config.tower_hidden, relevance=self.has_relevance)

    @property
    def tasks(self) -> int:
        """Number of logits of `predict` that are trained."""
        return 2 if self.has_conversion else 1

    def item_aspects(self, batch: FeatureBatch) -> Tensor:
        """Aspects of the items, `(n, a, d)`: those of ID, text and sparse fields that `item_aspects` names."""
        aspects = []
        if self.item_id is not None and self.item_table is not None:
            aspects.append(self.item_id(self.item_table(batch.item)))
        if self.item_text is not None:
            aspects.append(self.item_text(batch.text))
        if self.item_sparse is not None:
            aspects.append(self.item_sparse(batch.item_sparse, batch.item_weight))
        return torch.stack(aspects, dim=1)

    def user_aspects(self, batch: FeatureBatch) -> Tensor:
        """Aspects of the users, `(u, a, d)`: ID, sparse, history."""
        aspects = [self.user_id(self.user_table(batch.user))]
        if self.user_sparse is not None:
            aspects.append(self.user_sparse(batch.user_sparse, batch.user_weight))
        if self.user_encoder is not None:
            if batch.history is None:
                raise ValueError("the backbone has a user encoder, but the batch has no history")
            aspects.append(self.user_encoder(batch.history, self.item_table))
        return torch.stack(aspects, dim=1)

    def fuse(self, batch: FeatureBatch) -> tuple[Tensor, Tensor]:
        """User, item, their product and the query's part, side by side, `(n, w)`, and domain vectors `(u, e)`."""
        vector = self.domain_embedding(batch.domain)
        # Normed, because the product of two small vectors would hardly change the output at first (+0.002 AUC).
        item = layer_norm(self.item_fusion(self.item_aspects(batch), vector), (self.width,))
        user = layer_norm(self.user_fusion(self.user_aspects(batch), vector), (self.width,)).expand(len(batch), -1)
        parts = [user, item, user * item]
        if self.query is not None:
            parts.append(self.query(batch.query, vector, item, batch.text))
        return torch.cat(parts, dim=-1), vector

    def represent(self, batch: FeatureBatch, statistics: Tensor | None = None) -> Tensor:
        """The fused representation, float32 `(n, d)`: a layer norm's output and, with target statistics, their weighted
        sum as the last coordinate.

        Training passes the `statistics` of the pairs, `(n, width)`, computed without their own labels; without the
        argument the model uses its own, those of the whole pretraining half.
        """
        fused, vector = self.fuse(batch)
        if self.statistics is None or self.first_order is None:
            x: Tensor = self.domain_layer(fused, vector, batch.domain)
            return x
        seen = self.statistics(batch) if statistics is None else statistics
        x = self.domain_layer(torch.cat([fused, seen], dim=-1), vector, batch.domain)
        return torch.cat([x, self.first_order(seen)], dim=-1)

    @torch.no_grad()
    def begin_with(self, statistics: FittedStatistics, data: TrainingData) -> None:
        """Stores the statistics of `data` and initialises the first-order path by a logistic regression on them."""
        assert self.statistics is not None and self.first_order is not None
        self.statistics.load_state_dict(statistics.whole.state_dict())
        weight, bias = regress(statistics.columns(data), data.label)
        self.first_order.weight.copy_(weight)
        self.first_order.bias.copy_(bias)

    @torch.no_grad()
    def first_order_of(self, statistics: Tensor) -> NDArray[np.float32]:
        """The first-order click logit of statistics `(n, width)`, `(n,)`."""
        assert self.first_order is not None
        added: NDArray[np.float32] = self.first_order(statistics)[:, 0].numpy()
        return added

    def first_order_logit(self, x: Tensor) -> Tensor | None:
        """The last coordinate of `x`, `(n, 1)`: the part of the click logit that bypasses trunk and tower."""
        return None if self.first_order is None else x[:, -1:]

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CTR and CVR, `(n, 2)`. A single domain row `(1, 3)` serves all of `x`."""
        return self._of_clicks(x, self._mixed(x, domain))

    def predict_all(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CTR, CVR and relevance, `(n, 3)`. Raises ValueError for a backbone without relevance."""
        if self.towers.relevance is None:
            raise ValueError("the backbone predicts no relevance: its relevance_weight is 0")
        mixed = self._mixed(x, domain)
        return torch.cat([self._of_clicks(x, mixed), self.towers.relevance(mixed[-1])], dim=-1)

    def _mixed(self, x: Tensor, domain: Tensor) -> list[Tensor]:
        """The trunk's output for each task."""
        vector = self.domain_embedding(domain).expand(len(x), -1)
        mixed: list[Tensor] = self.experts(x, vector)
        return mixed

    def _of_clicks(self, x: Tensor, mixed: list[Tensor]) -> Tensor:
        logits: Tensor = self.towers(mixed[: self.tasks], self.first_order_logit(x))
        return logits

    def content(self, batch: FeatureBatch) -> Tensor:
        """A fixed projection of the items' aspects, rounded to float16 as it is logged, `(n, c)`."""
        flat = self.item_aspects(batch).flatten(1) - self.content_mean
        return round_representation(flat @ self.content_map + self.content_shift)

    def drop_ids(self, batch: FeatureBatch, generator: torch.Generator) -> FeatureBatch:
        """Replaces a share `id_dropout` of user and item rows by the out-of-vocabulary row, so that this row is
        trained."""
        share = self.config.id_dropout
        keep_user = torch.rand(batch.user.shape, generator=generator) >= share
        keep_item = torch.rand(batch.item.shape, generator=generator) >= share
        history = batch.history
        if history is not None:
            keep_past = torch.rand(history.row.shape, generator=generator) >= share
            history = replace(history, row=history.row * keep_past)
        return replace(batch, user=batch.user * keep_user, item=batch.item * keep_item, history=history)

    @staticmethod
    def as_newcomer(batch: FeatureBatch) -> FeatureBatch:
        """The same batch for users never seen: the out-of-vocabulary row and an empty history."""
        history = History.of_nobody(len(batch.user), batch.text.shape[1])
        return replace(batch, user=torch.zeros_like(batch.user), history=history)

    def freeze(self) -> FoundationBackbone:
        """Ends training: drops gradients, switches to evaluation mode and computes the fingerprint."""
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False).eval()
        self._fingerprint = fingerprint(self, self.config.identity, self.encoder_digest)
        return self

    @property
    def fingerprint(self) -> str:
        """The fingerprint that `freeze` computed. Raises RuntimeError before `freeze`."""
        if not self._fingerprint:
            raise RuntimeError("the backbone is not frozen yet: call freeze() after pretraining")
        return self._fingerprint

    def dense_parameters(self) -> int:
        """Number of parameters outside the embedding tables."""
        tables = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)}
        return sum(p.numel() for p in self.parameters() if id(p) not in tables)
