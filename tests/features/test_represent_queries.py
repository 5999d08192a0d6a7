"""Searches: how a request with a query is represented, and one without."""

from __future__ import annotations

import numpy as np
import torch

from features.queries import QueryTexts
from features.represent import Representer
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from tests.features.represent_parts import HERE, ITEMS, Parts


def test_a_search_is_represented_as_the_backbone_reads_it_and_a_recommendation_without(parts: Parts) -> None:
    known = parts.representer
    torch.manual_seed(5)
    shape = BackboneShape.of(known.encoder, known.space.sizes)
    backbone = FoundationBackbone(BackboneConfig(query_aspects=("words",)), shape, known.encoder.digest)
    assert backbone.query is not None and backbone.query.words is not None
    torch.nn.init.normal_(backbone.query.words.weight)
    backbone.freeze()
    queries = QueryTexts(known.encoder, parts.store.config, by_text=False)
    reader = Representer(backbone, known.encoder, parts.store, known.layout, known.space, queries=queries)
    plain = reader.represent("u", ITEMS, HERE, 1.0)
    asked = reader.represent("u", ITEMS, HERE, 1.0, reader.query("film i3"))
    assert not torch.equal(asked.x, plain.x)
    assert torch.equal(asked.content, plain.content)
    assert np.array_equal(asked.values, plain.values)
    again = reader.represent("u", ITEMS, HERE, 1.0, reader.query("Film, i3!"))
    assert torch.equal(again.x, asked.x), "the same words are the same query"
    assert known.query("film i3") is None, "a backbone that reads none has none encoded"


def test_relevance_is_predicted_for_a_search_and_not_for_a_recommendation(parts: Parts) -> None:
    known = parts.representer
    torch.manual_seed(5)
    config = BackboneConfig(query_aspects=("words",), relevance_weight=1.0)
    backbone = FoundationBackbone(config, BackboneShape.of(known.encoder, known.space.sizes), known.encoder.digest)
    backbone.freeze()
    queries = QueryTexts(known.encoder, parts.store.config, by_text=False)
    reader = Representer(backbone, known.encoder, parts.store, known.layout, known.space, queries=queries)
    plain, asked = (reader.represent("u", ITEMS, HERE, 1.0, query) for query in (None, reader.query("film i3")))
    assert plain.relevance_logit is None and asked.relevance_logit is not None
    facets = torch.tensor([[1, 1, 1]]).expand(12, -1)
    every = backbone.predict_all(asked.x, facets)
    assert torch.equal(asked.relevance_logit, every[:, 2])
    assert torch.equal(asked.frozen_logit, every[:, 0])
