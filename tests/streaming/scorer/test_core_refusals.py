"""What the scoring core refuses, by name, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from features.represented import Represented
from model.backbone.foundation import FoundationBackbone
from model.encoding.domain import Domain
from model.encoding.query import EncodedQuery
from model.kernel.kernel import Kernel
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.core import Scorer
from streaming.scorer.group_kernels import IDENTITY
from streaming.scorer.schema import DomainFacets, RequestRefused, ScoreRequest
from tests.streaming.scorer.core_parts import HOME, ITEMS, ask
from tests.streaming.scorer.scoring_parts import (
    START,
    MadeUpFeatures,
    make_scorer,
    packed,
    record,
)


def test_no_candidates_are_refused_by_name(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match="candidates") as refused:
        scorer.score(ask([]), 0.0)
    assert refused.value.problem.error == "empty_candidates"


@pytest.mark.parametrize("blank", [" ", "\t\n", "\u3000"])
def test_a_blank_identifier_is_refused_as_it_would_be_in_feedback(scorer: Scorer, blank: str) -> None:
    for request in (ask(["a", blank]), ScoreRequest(blank, ["a"], HOME)):
        with pytest.raises(RequestRefused, match="blank"):
            scorer.score(request, 0.0)


def test_too_many_candidates_are_refused_with_the_key(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match=r"10000 candidates.*scorer\.max_candidates"):
        scorer.score(ask([str(i) for i in range(10_000)]), 0.0)


def test_a_domain_without_a_group_is_refused(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match="night") as refused:
        scorer.score(ask(domain=DomainFacets("home", "unknown", "night")), 0.0)
    assert refused.value.problem.error == "no_group"


def test_a_kernel_without_finite_scores_is_deactivated_and_the_frozen_arm_serves(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    wild = Kernel(START, torch.full_like(START.features.identity(), 3e38))
    kernels.take([record(packed(backbone, 6, kernel=wild))])
    scored = make_scorer(backbone, kernels).score(ask(), 0.0)
    assert scored.response.kernel_version == 0
    assert scored.impression.live_logit == scored.impression.frozen_logit
    assert kernels.current("main") is IDENTITY
    assert kernels.refusals[-1].reason == "non_finite_scores"


class Overflowing(MadeUpFeatures):
    """One of its items is beyond what float16 holds."""

    def represent(
        self, user_id: str, item_ids: list[str], domain: Domain, time: float, query: EncodedQuery | None = None
    ) -> Represented:
        rows = super().represent(user_id, item_ids, domain, time, query)
        for index, item in enumerate(item_ids):
            if item == "beyond":
                rows.x[index] = float("inf")
                rows.frozen_logit[index] = float("nan")
        return rows


def test_an_item_without_a_finite_score_is_dropped_and_affects_neither_others_nor_the_kernel(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    scorer = make_scorer(backbone, kernels, encoder=Overflowing(backbone))
    scored = scorer.score(ask(candidates=["beyond", *ITEMS]), 0.0)
    assert scored.response.kernel_version == 5 and kernels.versions() == {"main": 5}
    assert sorted(scored.impression.items) == sorted(ITEMS)
    assert np.isfinite(scored.impression.array("x")).all()
    without = make_scorer(backbone, kernels).score(ask(), 0.0).response.scores
    assert [one.item_id for one in scored.response.scores] == [one.item_id for one in without]
    # On some processors an item's last bits depend on the row in which it stands.
    assert [one.score for one in scored.response.scores] == pytest.approx([one.score for one in without], rel=1e-5)
    assert scored.response.duplicates == 0


def test_a_request_without_any_finite_score_is_refused_with_its_own_reason(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    scorer = make_scorer(backbone, kernels, encoder=Overflowing(backbone))
    with pytest.raises(RequestRefused) as refused:
        scorer.score(ask(candidates=["beyond"]), 0.0)
    assert (refused.value.problem.error, refused.value.status) == ("not_finite", 503)
    scorer.warm_up(["beyond"])
    assert kernels.versions() == {"main": 5}
