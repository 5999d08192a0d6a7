"""How well a backbone orders the judged items of a live half by relevance, beside what needs no training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.profiles import ItemProfile
from lab.evaluate.prepare import PreparedStream
from lab.streams import Catalogue
from model.backbone.dataset import ProfileTable
from model.config import FieldSpec
from model.encoding.query import words_of
from model.encoding.spelling import spell_list
from model.evaluation import auc, grouped_auc, mixed_groups

TOWER, CLICKS, COSINE, WORDS = "relevance tower", "click logit", "cosine of texts", "shared words"
METHODS = (TOWER, CLICKS, COSINE, WORDS)


@dataclass(frozen=True)
class RelevanceMeasures:
    """Measures of one method to order judged items on one stream and seed; a judgement above one half is relevant."""

    judged: int
    """Judged items; `lists` are the searches among whose judged items some are relevant and some are not."""
    lists: int
    request_auc: float
    """AUC within these searches, weighted by their judged items."""
    auc: float


def measure_relevance(
    data: PreparedStream, profiles: ProfileTable, catalogue: Catalogue
) -> dict[str, RelevanceMeasures]:
    """The measures of each of `METHODS`, for a backbone that predicts relevance and a stream with judgements."""
    assert data.relevance is not None and data.relevance_logit is not None and data.query is not None
    judged = ~np.isnan(data.relevance)
    label, request = data.relevance[judged], data.request[judged]
    query, item = data.query[judged], data.item[judged]
    scores = {
        TOWER: data.relevance_logit[judged],
        CLICKS: data.frozen_logit[judged],
        COSINE: (profiles.queries.text.numpy()[query] * profiles.text.numpy()[item]).sum(1),
        WORDS: shared_words(catalogue, query, item),
    }
    lists = mixed_groups(label, request)
    return {
        method: RelevanceMeasures(len(label), lists, grouped_auc(label, score, request), auc(label, score))
        for method, score in scores.items()
    }


def shared_words(catalogue: Catalogue, query: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of a query's words that stand in the item's text or fields, `(n,)`, for positions in the catalogue."""
    asked = {place: set(words_of(catalogue.queries[place])) for place in np.unique(query).tolist()}
    known = {place: _item_words(catalogue.items[place], catalogue.item_fields) for place in np.unique(item).tolist()}
    pairs = zip(query.tolist(), item.tolist(), strict=True)
    return np.array([len(asked[q] & known[i]) / max(len(asked[q]), 1) for q, i in pairs])


def _item_words(item: ItemProfile, fields: tuple[FieldSpec, ...]) -> set[str]:
    named = [value for spec in fields for value in spell_list(item.fields.get(spec.name))]
    return set(words_of(" ".join([item.text, *named])))
