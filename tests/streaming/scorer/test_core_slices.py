"""Large requests and searches in the scoring core: slices, pauses, and queries that are encoded once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from model.backbone.foundation import FoundationBackbone
from model.encoding.domain import Domain
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.core import Scored, Scorer
from streaming.scorer.schema import RequestRefused, ScoreRequest
from tests.streaming.scorer.core_parts import ask
from tests.streaming.scorer.scoring_parts import (
    MadeUpFeatures,
    make_scorer,
    packed,
    record,
)


def _score_one_by_one(scorer: Scorer, asked: ScoreRequest) -> tuple[int, Scored]:
    """How often a request paused, and what came of it."""
    slices, pauses = scorer.in_slices(asked, 7.0), 0
    while True:
        try:
            next(slices)
        except StopIteration as done:
            return pauses, done.value
        pauses += 1


@pytest.mark.parametrize(("candidates", "pauses"), [(1, 0), (250, 0), (251, 2), (1_000, 4)])
def test_a_large_request_pauses_before_each_slice_and_a_small_one_never(
    backbone: FoundationBackbone, kernels: ActiveKernels, candidates: int, pauses: int
) -> None:
    scorer = make_scorer(backbone, kernels, max_candidates=1_000)
    seen, scored = _score_one_by_one(scorer, ask([f"item-{index}" for index in range(candidates)]))
    assert seen == pauses
    assert len(scored.response.scores) == candidates == len(scored.impression.array("x"))


def test_slices_give_every_item_the_same_scores_as_alone(backbone: FoundationBackbone, kernels: ActiveKernels) -> None:
    scorer = make_scorer(backbone, kernels, max_candidates=1_000)
    items = [f"item-{index}" for index in range(600)]
    together = {s.item_id: s.score for s in scorer.score(ask(items), 7.0).response.scores}
    for item in ("item-0", "item-249", "item-250", "item-599"):
        (alone,) = scorer.score(ask([item]), 7.0).response.scores
        assert together[item] == pytest.approx(alone.score, abs=1e-6)


def test_a_kernel_swap_between_two_slices_affects_only_the_next_request(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    scorer = make_scorer(backbone, kernels, max_candidates=1_000)
    items = [f"item-{index}" for index in range(600)]
    before = scorer.score(ask(items), 7.0).response
    slices = scorer.in_slices(ask(items), 7.0)
    next(slices), next(slices)
    kernels.take([record(packed(backbone, before.kernel_version + 1))])
    with pytest.raises(StopIteration) as done:
        while True:
            next(slices)
    after = done.value.value.response
    assert (after.kernel_version, after.scores) == (before.kernel_version, before.scores)


def test_an_invalid_request_is_refused_before_its_first_pause(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    with pytest.raises(RequestRefused, match="max_candidates"):
        next(make_scorer(backbone, kernels).in_slices(ask([str(i) for i in range(10_000)]), 0.0))


def test_a_search_is_served_and_logged_as_represented_and_recommendations_are_unchanged(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    reads = MadeUpFeatures(backbone, reads_queries=True)
    searched, recommended = make_scorer(backbone, kernels, encoder=reads), make_scorer(backbone, kernels)
    plain, asked = searched.score(ask(), 0.0), searched.score(ask(query="war films"), 0.0)
    assert plain.response.scores == recommended.score(ask(), 0.0).response.scores
    assert asked.response.scores != plain.response.scores
    rows = reads.represent(
        "user-1", asked.impression.items, Domain("home", "unknown", "day"), 0.0, reads.query("war films")
    )
    np.testing.assert_array_equal(asked.impression.array("x"), rows.x.numpy())


def test_a_query_is_encoded_once_however_many_slices_a_request_has(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    encoder = MadeUpFeatures(backbone, reads_queries=True)
    scorer = make_scorer(backbone, kernels, encoder=encoder, max_candidates=1_000)
    scorer.score(ask([f"i{n}" for n in range(900)], query="war"), 0.0)
    assert encoder.asked == ["war"]


def test_a_backbone_without_query_aspects_refuses_a_query_by_name(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match=r"'main' reads no query.*backbone\.query_aspects.*`\$\.query`") as refused:
        scorer.score(ask(query="war"), 0.0)
    assert refused.value.problem.error == "no_query_aspect"


def test_a_blank_query_is_refused_and_a_long_or_empty_one_by_the_schema(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    scorer = make_scorer(backbone, kernels, encoder=MadeUpFeatures(backbone, reads_queries=True))
    with pytest.raises(RequestRefused, match="query is blank"):
        scorer.score(ask(query="  "), 0.0)
    for query in ("", "x" * 513):
        body = msgspec.json.encode({"user_id": "u", "candidates": ["a"], "query": query})
        with pytest.raises(msgspec.ValidationError, match=r"\$\.query"):
            msgspec.json.decode(body, type=ScoreRequest)
