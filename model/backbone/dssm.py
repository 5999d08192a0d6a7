"""Two towers: a user's vector and an item's, which meet in a dot product (DSSM, Huang et al., CIKM 2013, section 3).

In the paper a query and a document each go through a network of their own, and the cosine of what comes out, times a
factor, says how well they match. Here the query is the user in a domain. Different from the paper (ours): aspects in
place of hashed trigrams, ReLU in place of tanh, a layer norm in place of the cosine's division, a learned weight per
coordinate in place of one factor, and the loss of the rest of the backbone in place of a softmax over documents.

    p = norm_k( W2 relu(W1 [norm r_user ; t_user]) )      the domain layer, as before any trunk
    q = norm( V2 relu(V1 [norm r_item ; t_item]) )
    x = [ p ; v'_user t_user ;  q ; v'_item t_item + c ]
    logit = w'(p * q) + b + v't + c

An item's vector is the same for all users and domains, and a user's for all items, so the scorer can cache both. That
is the purpose of the two towers (docs/decisions/0123).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from model.backbone.foundation import FoundationBackbone
from model.backbone.fusion import AspectFusion, DomainLayer, mlp
from model.backbone.shape import BackboneShape
from model.backbone.trunk import Towers
from model.config import BackboneConfig
from model.encoding.features import FeatureBatch


def make_foundation(config: BackboneConfig, shape: BackboneShape, encoder_digest: str = "") -> FoundationBackbone:
    """The foundation model that `config.trunk` asks for, untrained."""
    kind = DssmBackbone if config.trunk == "dssm" else FoundationBackbone
    return kind(config, shape, encoder_digest)


class DssmBackbone(FoundationBackbone):
    """Implements `TwoTowers`: the aspects of the foundation model under two towers."""

    def _item_fusion(self, config: BackboneConfig, aspects: int) -> AspectFusion:
        # Gating by domain would give an item a different vector in each domain, which could not be cached.
        gating = "mean" if config.gating == "domain" else config.gating
        return AspectFusion(gating, aspects, config.width, config.domain_width)

    def _add_head(self, config: BackboneConfig) -> None:
        d, e, hidden = config.width, config.domain_width, config.expert_hidden
        user, item, own = 0, 0, 0
        if self.statistics is not None:
            user, own = self.statistics.user_width, 1
            item = self.statistics.width - user
        self.matched = d // 2 - own
        self.user_tower = nn.Sequential(nn.Linear(d + user, hidden), nn.ReLU(), nn.Dropout(config.dropout))
        self.domain_layer = DomainLayer(config.domain_map, hidden, self.matched, e, self.shape.domain_sizes)
        self.item_tower = nn.Sequential(
            mlp((d + item, hidden, self.matched), config.dropout), nn.LayerNorm(self.matched)
        )
        self.first_order = nn.Linear(user + item, 1) if self.statistics is not None else None
        self.towers = Towers(self.tasks, self.matched)
        for net in self.towers.nets:
            # `p * q` starts as the cosine. A larger start would drown the statistics, which are right from the start.
            nn.init.constant_(net[0].weight, 1.0 / self.matched)  # type: ignore[index]

    @property
    def reads_clock(self) -> bool:
        """Whether a user's vector depends on how long ago events were."""
        return self.user_encoder is not None and self.config.history_gaps

    def user_vector(self, batch: FeatureBatch, statistics: Tensor | None = None) -> Tensor:
        """`[p ; v'_user t_user]`, `(u, d / 2)`; `statistics` as in `represent`, `(u, user_width)`."""
        vector = self.domain_embedding(batch.domain)
        user = layer_norm(self.user_fusion(self.user_aspects(batch), vector), (self.width,))
        if self.statistics is None or self.first_order is None:
            p: Tensor = self.domain_layer(self.user_tower(user), vector, batch.domain)
            return p
        seen = self.statistics.of_users(batch) if statistics is None else statistics
        p = self.domain_layer(self.user_tower(torch.cat([user, seen], dim=-1)), vector, batch.domain)
        weight = self.first_order.weight[:, : self.statistics.user_width]
        return torch.cat([p, seen @ weight.T], dim=-1)

    def item_vector(self, batch: FeatureBatch, statistics: Tensor | None = None) -> Tensor:
        """`[q ; v'_item t_item + c]`, `(n, d / 2)`; `statistics` as in `represent`, of the items alone."""
        # The item's gate does not read the domain, so any row of the domain embedding will do.
        nowhere = self.domain_embedding(torch.zeros_like(batch.domain[:1]))
        item = layer_norm(self.item_fusion(self.item_aspects(batch), nowhere), (self.width,))
        if self.statistics is None or self.first_order is None:
            q: Tensor = self.item_tower(item)
            return q
        seen = self.statistics.of_items(batch) if statistics is None else statistics
        q = self.item_tower(torch.cat([item, seen], dim=-1))
        weight = self.first_order.weight[:, self.statistics.user_width :]
        return torch.cat([q, seen @ weight.T + self.first_order.bias], dim=-1)

    def represent(self, batch: FeatureBatch, statistics: Tensor | None = None) -> Tensor:
        """A user's vector beside an item's, float32 `(n, d)`; `statistics` as in the foundation model."""
        user = item = None
        if statistics is not None and self.statistics is not None:
            user, item = statistics.tensor_split([self.statistics.user_width], dim=1)
        return torch.cat([self.user_vector(batch, user).expand(len(batch), -1), self.item_vector(batch, item)], dim=-1)

    def first_order_logit(self, x: Tensor) -> Tensor | None:
        """The last coordinates of both vectors, added, `(n, 1)`."""
        user, item = x.chunk(2, dim=-1)
        return None if self.first_order is None else user[:, -1:] + item[:, -1:]

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CTR and CVR, `(n, 2)`; the domain is in the user's vector."""
        del domain
        user, item = x.chunk(2, dim=-1)
        matched = user[:, : self.matched] * item[:, : self.matched]
        logits: Tensor = self.towers([matched] * self.tasks, self.first_order_logit(x))
        return logits
