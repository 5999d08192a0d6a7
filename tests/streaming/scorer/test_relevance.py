"""Relevance in the answer to a search: what it holds for each item, and what orders it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from model.backbone.foundation import FoundationBackbone
from model.backbone.schema import BackboneRefused
from streaming.events import ServedImpression
from streaming.scorer.arms import SLICE_CANDIDATES
from streaming.scorer.blend import Blend, probability
from streaming.scorer.core import CLICKS_ALONE, Scored
from streaming.scorer.schema import DomainFacets, ScoreRequest, ScoreResponse
from tests.streaming.scorer.scoring_parts import (
    MadeUpFeatures,
    make_backbone,
    make_kernels,
    make_scorer,
    packed,
    record,
)

HOME = DomainFacets("home", "unknown", "day")
LOGIT = st.floats(-60, 60)
LOGITS = st.lists(st.tuples(LOGIT, LOGIT, LOGIT), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def judging() -> FoundationBackbone:
    return make_backbone(query_aspects=("words",), relevance_weight=1.0)


def scored(
    backbone: FoundationBackbone, blend: Blend = CLICKS_ALONE, query: str | None = "war films", items: int = 12
) -> Scored:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    encoder = MadeUpFeatures(backbone, reads_queries=True)
    scorer = make_scorer(backbone, kernels, encoder=encoder, blend=blend, max_candidates=items)
    return scorer.score(ScoreRequest("user-1", [f"item-{i}" for i in range(items)], HOME, arms=True, query=query), 7.0)


def of_items(answer: ScoreResponse, key: str) -> dict[str, Any]:
    return {item.item_id: getattr(item, key) for item in answer.scores}


def test_the_answer_to_a_search_has_the_relevance_of_each_item_and_is_ordered_by_clicks(
    judging: FoundationBackbone,
) -> None:
    answer = scored(judging).response
    assert answer.arms is not UNSET
    live = {row.item_id: row.live for row in answer.arms}
    for item in answer.scores:
        assert item.ctr == item.score == live[item.item_id]
        assert isinstance(item.relevance, float) and 0 < item.relevance < 1
        assert item.cvr is item.ctcvr is UNSET
    assert len(set(of_items(answer, "relevance").values())) > 1


@pytest.mark.parametrize("blend", [CLICKS_ALONE, Blend(relevance=1.0)])
def test_a_recommendation_is_answered_as_without_the_task(blend: Blend, judging: FoundationBackbone) -> None:
    answer = scored(judging, blend, query=None).response
    assert all(item.ctr is item.relevance is UNSET for item in answer.scores)
    assert answer.scores == scored(judging, query=None).response.scores


def test_a_backbone_without_the_task_answers_no_relevance() -> None:
    answer = scored(make_backbone(query_aspects=("words",))).response
    assert all(item.ctr is item.relevance is UNSET for item in answer.scores)


def test_a_backbone_of_conversions_and_relevance_answers_all_four_probabilities() -> None:
    both = make_backbone(tasks="ctr_ctcvr", query_aspects=("words",), relevance_weight=1.0)
    for item in scored(both).response.scores:
        assert isinstance(item.ctr, float) and isinstance(item.cvr, float) and isinstance(item.relevance, float)
        assert item.ctcvr == pytest.approx(item.ctr * item.cvr, rel=1e-6)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_weight_orders_searches_by_clicks_and_relevance(weight: float, judging: FoundationBackbone) -> None:
    clicks, answer = scored(judging, items=200).response, scored(judging, Blend(relevance=weight), items=200).response
    for item in answer.scores:
        assert isinstance(item.ctr, float) and isinstance(item.relevance, float)
        assert item.score == pytest.approx(item.ctr * (1 - weight + weight * item.relevance), rel=1e-5)
    scores = [item.score for item in answer.scores]
    assert scores == sorted(scores, reverse=True)
    assert of_items(answer, "ctr") == pytest.approx(of_items(clicks, "ctr"), rel=1e-6)
    if weight == 1.0:
        assert list(of_items(answer, "ctr")) != list(of_items(clicks, "ctr"))


def test_what_is_logged_is_what_clicks_are_learned_from_alone(judging: FoundationBackbone) -> None:
    made = scored(judging, Blend(relevance=1.0))
    assert type(made.impression) is ServedImpression
    assert "relevance" not in repr(made.impression)
    live = probability(made.impression.array("live_logit").copy())
    assert live.tolist() == pytest.approx(list(of_items(made.response, "ctr").values()))


def test_a_search_in_slices_is_answered_alike(judging: FoundationBackbone) -> None:
    answer = scored(judging, Blend(relevance=0.5), items=SLICE_CANDIDATES + 30).response
    alone = scored(judging, Blend(relevance=0.5), items=30).response
    assert len(answer.scores) == SLICE_CANDIDATES + 30
    sliced = of_items(answer, "relevance")
    assert of_items(alone, "relevance") == pytest.approx({item: sliced[item] for item in of_items(alone, "ctr")})


@given(LOGITS, st.floats(0, 1), st.floats(0, 1))
def test_the_score_is_the_product_of_its_factors_and_agrees_with_the_order(
    logits: list[tuple[float, float, float]], conversion: float, relevance: float
) -> None:
    ctr, cvr, rel = np.array(logits, dtype=np.float32).T
    ranked = Blend(conversion, relevance).rank(ctr, cvr, rel)
    click, converts, relevant = (probability(column).astype(np.float64) for column in (ctr, cvr, rel))
    expected = click * (1 - conversion + conversion * converts) * (1 - relevance + relevance * relevant)
    assert np.isfinite(ranked.key).all()
    np.testing.assert_allclose(ranked.score, expected, rtol=1e-4, atol=1e-30)
    order = np.argsort(-ranked.key, kind="stable")
    assert (np.diff(ranked.score[order]) <= 0).all()


@given(LOGITS, st.floats(0, 1), st.floats(0, 1))
def test_without_relevance_its_weight_changes_nothing(
    logits: list[tuple[float, float, float]], conversion: float, relevance: float
) -> None:
    ctr, cvr, _ = np.array(logits, dtype=np.float32).T
    plain, weighed = Blend(conversion).rank(ctr, cvr), Blend(conversion, relevance).rank(ctr, cvr)
    assert np.array_equal(plain.key, weighed.key) and np.array_equal(plain.score, weighed.score)


def test_relevance_cannot_count_where_the_backbone_does_not_predict_it() -> None:
    Blend(relevance=0.5).check(has_conversion=False, has_relevance=True)
    with pytest.raises(BackboneRefused, match=r"scorer\.relevance_weight is 0\.5, but the backbone predicts no"):
        Blend(relevance=0.5).check(has_conversion=True, has_relevance=False)
