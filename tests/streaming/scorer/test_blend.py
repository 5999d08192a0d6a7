"""Clicks and conversions in one response: the rates of each item, and the ranking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from numpy.typing import NDArray
from torch import Tensor

from model.backbone.foundation import FoundationBackbone
from model.backbone.schema import BackboneRefused
from model.kernel.features import KernelInputs
from model.kernel.kernel import Kernel
from streaming.events import ConvertingImpression
from streaming.scorer.arms import SLICE_CANDIDATES
from streaming.scorer.blend import Blend, probability
from streaming.scorer.core import CLICKS_ALONE, Scored
from streaming.scorer.schema import DomainFacets, ScoreRequest, ScoreResponse
from tests.streaming.scorer.scoring_parts import (
    BOTH,
    DEPENDS_ON,
    make_backbone,
    make_kernel,
    make_kernels,
    make_scorer,
    packed,
    record,
)

HOME = DomainFacets("home", "unknown", "day")
LOGITS = st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def converting() -> FoundationBackbone:
    return make_backbone(tasks="ctr_ctcvr")


def answered(backbone: FoundationBackbone, blend: Blend = CLICKS_ALONE, items: int = 12) -> ScoreResponse:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    scorer = make_scorer(backbone, kernels, blend=blend, max_candidates=items)
    request = ScoreRequest("user-1", [f"item-{i}" for i in range(items)], HOME, arms=True)
    return scorer.score(request, 7.0).response


def test_a_backbone_without_conversions_has_the_click_response() -> None:
    answer = answered(make_backbone())
    assert all(item.ctr is item.cvr is item.ctcvr is UNSET for item in answer.scores)


def test_a_backbone_with_conversions_returns_all_three_rates_ordered_by_the_click_rate(
    converting: FoundationBackbone,
) -> None:
    answer = answered(converting)
    assert answer.arms is not UNSET
    live = {row.item_id: row.live for row in answer.arms}
    for item in answer.scores:
        assert item.ctr == item.score == live[item.item_id]
        assert isinstance(item.ctr, float) and isinstance(item.cvr, float)
        assert item.ctcvr == pytest.approx(item.ctr * item.cvr, rel=1e-6)
    assert len({item.cvr for item in answer.scores}) > 1
    assert [item.score for item in answer.scores] == sorted((item.score for item in answer.scores), reverse=True)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_weight_orders_by_the_blend_and_the_log_has_that_order(
    weight: float, converting: FoundationBackbone
) -> None:
    clicks, answer = answered(converting, items=200), answered(converting, Blend(weight), items=200)
    for item in answer.scores:
        assert isinstance(item.ctr, float) and isinstance(item.cvr, float)
        assert item.score == pytest.approx(item.ctr * (1 - weight + weight * item.cvr), rel=1e-5)
    scores = [item.score for item in answer.scores]
    assert scores == sorted(scores, reverse=True)
    by_item = [{item.item_id: item.ctr for item in one.scores} for one in (answer, clicks)]
    assert by_item[0] == pytest.approx(by_item[1], rel=1e-6)  # a sigmoid rounds by its place in the array
    if weight == 1.0:
        assert [item.item_id for item in answer.scores] != [item.item_id for item in clicks.scores]


def test_a_request_scored_in_slices_gives_the_same_response(converting: FoundationBackbone) -> None:
    answer = answered(converting, Blend(0.5), items=SLICE_CANDIDATES + 30)
    assert len(answer.scores) == SLICE_CANDIDATES + 30
    assert all(isinstance(item.cvr, float) for item in answer.scores)


def test_at_most_one_slice_of_conversions_is_scored_between_two_pauses(
    converting: FoundationBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = make_kernels(converting)
    kernels.take([record(packed(converting, 5, kernel=make_kernel(5, start=BOTH)))])
    scorer, scored, logit = make_scorer(converting, kernels, max_candidates=1_000), [], Kernel.logit

    def counted(kernel: Kernel, inputs: KernelInputs) -> Tensor:
        if kernel.conversion is None:
            scored.append(len(inputs.x))
        return logit(kernel, inputs)

    monkeypatch.setattr(Kernel, "logit", counted)
    items = [f"item-{number}" for number in range(2 * SLICE_CANDIDATES + 30)]
    before_each = [list(scored) for _ in scorer.in_slices(ScoreRequest("user-1", items, HOME), 7.0)]
    assert before_each == [[], [SLICE_CANDIDATES], [SLICE_CANDIDATES] * 2]


def taken(backbone: FoundationBackbone, kernel: Kernel | None, **settings: Any) -> Scored:
    """The answer to one request, and what is logged of it, with this kernel in use."""
    kernels = make_kernels(backbone)
    if kernel is not None:
        kernels.take([record(packed(backbone, 5, kernel=kernel))])
    scorer = make_scorer(backbone, kernels, **settings)
    return scorer.score(ScoreRequest("user-1", [f"item-{i}" for i in range(12)], HOME), 7.0)


def scores_and_answer(scored: Scored) -> tuple[NDArray[np.float32], NDArray[np.float32], list[float]]:
    """Logged probabilities of a conversion by the frozen and the live arm, and those of the answer."""
    shown = scored.impression
    assert isinstance(shown, ConvertingImpression)
    frozen, live = (probability(shown.array(name).copy()) for name in ("cvr_frozen_logit", "cvr_live_logit"))
    return frozen, live, [float(item.cvr) for item in scored.response.scores]  # type: ignore[arg-type]


def test_the_live_arm_scores_conversions_by_the_kernel_and_logs_both_arms(converting: FoundationBackbone) -> None:
    frozen, live, answer = scores_and_answer(taken(converting, make_kernel(5, start=BOTH)))
    assert answer == pytest.approx(live.tolist())
    assert not np.allclose(frozen, live)


def test_an_untrained_kernel_and_the_frozen_arm_score_conversions_bit_identically_to_the_backbone(
    converting: FoundationBackbone,
) -> None:
    for scored in (taken(converting, None), taken(converting, Kernel.identity(BOTH))):
        frozen, live, answer = scores_and_answer(scored)
        assert frozen.tolist() == live.tolist() == answer
    frozen, live, answer = scores_and_answer(taken(converting, make_kernel(5, start=BOTH), live_arm=False))
    assert frozen.tolist() == answer != live.tolist()


def test_a_kernel_without_conversions_is_refused_by_a_scorer_with_conversions(converting: FoundationBackbone) -> None:
    kernels = make_kernels(converting)
    kernels.take([record(packed(converting, 5, kernel=make_kernel(5), depends_on=DEPENDS_ON))])
    (refusal,) = kernels.refusals
    assert refusal.reason == "configuration"
    assert "kernel.conversion_start is not set in the record" in refusal.detail


def test_implausible_conversions_leave_the_click_part_of_their_kernel_active(converting: FoundationBackbone) -> None:
    kernels = make_kernels(converting)
    scorer = make_scorer(converting, kernels)
    request = ScoreRequest("user-1", [f"item-{i}" for i in range(12)], HOME)
    scorer.score(request, 7.0)
    good = make_kernel(5, start=BOTH)
    assert good.conversion is not None
    far = replace(good.conversion, weights=good.conversion.weights + 1e6)
    kernels.take([record(packed(converting, 5, kernel=replace(good, conversion=far)))])
    assert [refusal.detail.split(":")[0] for refusal in kernels.refusals] == ["conversions"]
    frozen, live, answer = scores_and_answer(scorer.score(request, 7.0))
    assert kernels.current("main").version == 5
    assert frozen.tolist() == live.tolist() == answer


@given(LOGITS, st.floats(0, 1))
def test_the_score_lies_between_ctcvr_and_ctr_and_agrees_with_the_order(
    logits: list[tuple[float, float]], weight: float
) -> None:
    ctr, cvr = np.array(logits, dtype=np.float32).T
    ranked = Blend(weight).rank(ctr, cvr)
    click = probability(ctr).astype(np.float64)
    assert np.isfinite(ranked.key).all()
    assert (ranked.score <= click * (1 + 1e-5) + 1e-30).all()
    assert (ranked.score >= click * probability(cvr) * (1 - 1e-5) - 1e-30).all()
    order = np.argsort(-ranked.key, kind="stable")
    assert (np.diff(ranked.score[order]) <= 0).all()


def test_a_conversion_weight_without_the_task_is_refused() -> None:
    Blend(0.0).check(has_conversion=False, has_relevance=True)
    Blend(0.5).check(has_conversion=True, has_relevance=False)
    with pytest.raises(BackboneRefused, match=r"scorer\.conversion_weight is 0\.5, .*clicks alone"):
        Blend(0.5).check(has_conversion=False, has_relevance=True)
