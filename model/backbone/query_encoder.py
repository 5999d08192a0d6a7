"""The features that a query adds to a pair of user and item (S&R Multi-Domain Foundation, arXiv 2309.08939)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from model.backbone.fusion import AspectFusion
from model.config import BackboneConfig
from model.encoding.query import WORD_ROWS, Queries


class QueryEncoder(nn.Module):
    """A query as the sum of its gated aspects, and its interaction with the item.

    The paper gates queries like items. The interaction is ours: the product of the query's and the item's vectors, as
    for user and item, and the cosine of their texts if both are known by text.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        d, aspects = config.width, config.query_aspects
        self.text = nn.Linear(config.text_width, d) if "text" in aspects else None
        self.words = nn.EmbeddingBag(WORD_ROWS, config.sparse_width, mode="sum") if "words" in aspects else None
        self.word_map = nn.Linear(config.sparse_width, d) if "words" in aspects else None
        if self.words is not None:
            nn.init.zeros_(self.words.weight)  # a word that pretraining never saw then adds nothing
        self.fusion = AspectFusion(config.gating, len(aspects), d, config.domain_width)
        self.matches_text = self.text is not None and "text" in config.item_aspects
        self.width = 2 * d + 1 + self.matches_text
        """Number of columns that are added to a pair."""

    def aspects(self, queries: Queries) -> Tensor:
        """Aspects of the distinct queries, `(q, a, d)`: text, words."""
        aspects = []
        if self.text is not None:
            aspects.append(self.text(queries.text))
        if self.words is not None and self.word_map is not None:
            aspects.append(self.word_map(self.words(queries.words, per_sample_weights=queries.weight)))
        return torch.stack(aspects, dim=1)

    def forward(self, queries: Queries | None, vector: Tensor, item: Tensor, text: Tensor) -> Tensor:
        """Query, its product with the item, a flag for its presence, and the texts' cosine, `(n, width)`.

        `item` are the items' vectors `(n, d)`, `text` their text vectors `(n, t)`, `vector` the domains' `(u, e)`. All
        columns are zero for a pair without a query.
        """
        n = len(item)
        if queries is None or not len(queries.text):
            return item.new_zeros(n, self.width)
        place, there = queries.of.clamp(min=0), queries.there[:, None].float()
        fused = self.fusion(self.aspects(queries)[place], vector)
        query = (layer_norm(fused, fused.shape[1:]) * there).expand(n, -1)
        parts = [query, query * item, there.expand(n, -1)]
        if self.matches_text:
            parts.append((queries.text[place] * there * text).sum(1, keepdim=True))
        return torch.cat(parts, dim=1)
