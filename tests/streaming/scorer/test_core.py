"""The scoring core on small real models: arms, ranking, and what is logged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from features.represented import Represented
from model.backbone.foundation import FoundationBackbone
from model.encoding.domain import Domain
from model.encoding.query import EncodedQuery
from streaming.config import group_of_request
from streaming.events.decisions import Order
from streaming.events.request_ids import RequestIds
from streaming.events.traffic import FloatPayload
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.core import Scored, Scorer
from streaming.scorer.schema import DomainFacets
from tests.streaming.scorer.core_parts import ITEMS, ask, frozen_scores, live_scores
from tests.streaming.scorer.scoring_parts import (
    SPACE,
    MadeUpFeatures,
    make_kernel,
    make_kernels,
    make_scorer,
    ordered,
    packed,
    record,
)


def test_the_response_is_ordered_by_the_live_arm_best_first(scorer: Scorer, backbone: FoundationBackbone) -> None:
    response = scorer.score(ask(), 7.0).response
    expected = dict(zip(ITEMS, torch.from_numpy(live_scores(backbone, ITEMS, 5)).sigmoid().tolist(), strict=True))
    assert {score.item_id: score.score for score in response.scores} == pytest.approx(expected)
    served = [score.score for score in response.scores]
    assert served == sorted(served, reverse=True)
    assert response.kernel_version == 5
    assert group_of_request(response.request_id) == response.group == "main"


class TwoKindsOfItems(MadeUpFeatures):
    """Items whose names begin alike have the same features, and so the same score."""

    def represent(
        self, user_id: str, item_ids: list[str], domain: Domain, time: float, query: EncodedQuery | None = None
    ) -> Represented:
        return super().represent(user_id, [item[0] for item in item_ids], domain, time, query)


def test_equal_scores_keep_the_callers_order(backbone: FoundationBackbone, kernels: ActiveKernels) -> None:
    scorer = make_scorer(backbone, kernels, encoder=TwoKindsOfItems(backbone), max_candidates=1_000)
    candidates = [f"{kind}-{number}" for number in range(300) for kind in "ab"]
    for asked in (candidates, candidates[::-1]):
        response = scorer.score(ask(asked), 0.0).response
        assert len({score.score for score in response.scores}) == 2
        for kind in "ab":
            served = [score.item_id for score in response.scores if score.item_id[0] == kind]
            assert served == [item for item in asked if item[0] == kind]


def _serves_frozen(backbone: FoundationBackbone, scored: Scored) -> None:
    """Checks that order and scores are the frozen model's, and that the log also holds the kernel's."""
    frozen = frozen_scores(backbone, ITEMS)
    impression, response = scored.impression, scored.response
    best_first = [ITEMS[i] for i in np.argsort(-np.array(frozen), kind="stable")]
    assert impression.items == [score.item_id for score in response.scores] == best_first
    served = torch.tensor(impression.array("frozen_logit")).sigmoid().tolist()
    assert [score.score for score in response.scores] == served
    assert (impression.arm, response.kernel_version) == ("frozen", 0)
    assert impression.kernel_version > 0
    assert impression.live_logit != impression.frozen_logit


def test_with_the_live_arm_off_frozen_scores_are_served_bit_for_bit_and_the_kernel_is_still_scored(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    _serves_frozen(backbone, make_scorer(backbone, kernels, live_arm=False).score(ask(), 0.0))


def test_a_frozen_group_gets_the_frozen_scores(backbone: FoundationBackbone, kernels: ActiveKernels) -> None:
    scorer = make_scorer(backbone, kernels)
    assert scorer.score(ask(), 0.0).impression.arm == "live"
    kernels.apply_orders([ordered(Order("main", frozen=True))])
    _serves_frozen(backbone, scorer.score(ask(), 0.0))
    kernels.apply_orders([ordered(Order("main"))])
    assert scorer.score(ask(), 0.0).response.kernel_version > 0


def test_without_a_kernel_the_live_arm_equals_the_frozen_arm(backbone: FoundationBackbone) -> None:
    impression = make_scorer(backbone, make_kernels(backbone)).score(ask(), 0.0).impression
    assert impression.live_logit == impression.frozen_logit


def test_a_new_kernel_serves_the_frozen_scores_bit_for_bit(backbone: FoundationBackbone) -> None:
    new = make_kernel(1, scale=0.0)
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1, kernel=new))])
    impression = make_scorer(backbone, kernels).score(ask(), 0.0).impression
    assert impression.kernel_version == 1
    assert impression.live_logit == impression.frozen_logit


def test_the_impression_holds_what_was_served_in_the_served_order(scorer: Scorer, backbone: FoundationBackbone) -> None:
    scored = scorer.score(ask(top_k=4), 7.0)
    impression = scored.impression
    assert impression.items == [score.item_id for score in scored.response.scores]
    assert (impression.request_id, impression.time) == (scored.response.request_id, 7.0)
    assert (impression.fingerprint, impression.kernel_version) == (backbone.fingerprint, 5)
    domain = Domain("home", "unknown", "day")
    rows = MadeUpFeatures(backbone).represent("user-1", impression.items, domain, 7.0)
    floats: tuple[FloatPayload, ...] = ("x", "live", "content")
    for name in floats:
        np.testing.assert_array_equal(impression.array(name), getattr(rows, name).numpy())
    np.testing.assert_array_equal(impression.array("values"), rows.values)
    np.testing.assert_allclose(impression.array("live_logit"), live_scores(backbone, impression.items, 5), rtol=1e-5)


def test_top_k_keeps_the_best(scorer: Scorer) -> None:
    everything = [s.item_id for s in scorer.score(ask(), 0.0).response.scores]
    best = [s.item_id for s in scorer.score(ask(top_k=3), 0.0).response.scores]
    assert best == everything[:3]
    assert len(scorer.score(ask(top_k=99), 0.0).response.scores) == len(ITEMS)


def test_a_duplicate_candidate_is_scored_once(scorer: Scorer) -> None:
    response = scorer.score(ask(["a", "b", "a"]), 0.0).response
    assert sorted(s.item_id for s in response.scores) == ["a", "b"]
    assert response.duplicates == 1


def test_an_undeclared_domain_value_counts_as_unknown(backbone: FoundationBackbone, kernels: ActiveKernels) -> None:
    counted: list[int] = []
    scorer = Scorer(
        encoder=MadeUpFeatures(backbone),
        fingerprint=backbone.fingerprint,
        kernels=kernels,
        space=SPACE,
        group_of=lambda domain: "main",
        groups=("main",),
        request_ids=RequestIds(),
        on_undeclared=lambda: counted.append(1),
    )
    impression = scorer.score(ask(domain=DomainFacets("cinema", "unknown", "day")), 0.0).impression
    assert impression.domain == Domain("unknown", "unknown", "day")
    assert counted == [1]
    scorer.score(ask(), 0.0)
    assert counted == [1]


def test_a_kernel_swap_during_a_request_affects_only_the_next_request(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    class Swapping(MadeUpFeatures):
        def represent(
            self, user_id: str, item_ids: list[str], domain: Domain, time: float, query: EncodedQuery | None = None
        ) -> Represented:
            kernels.take([record(packed(backbone, 6))])
            return super().represent(user_id, item_ids, domain, time, query)

    scorer = make_scorer(backbone, kernels, encoder=Swapping(backbone))
    first, second = scorer.score(ask(), 0.0), scorer.score(ask(), 0.0)
    assert [first.response.kernel_version, second.response.kernel_version] == [5, 6]
    for scored, version in ((first, 5), (second, 6)):
        expected = live_scores(backbone, scored.impression.items, version)
        np.testing.assert_allclose(scored.impression.array("live_logit"), expected, rtol=1e-5)


def test_the_warm_up_leaves_no_trace_in_the_score_windows(scorer: Scorer) -> None:
    scorer.warm_up(ITEMS)
    assert np.isnan(scorer.windows["main", "live"].mean())
    scorer.score(ask(), 0.0)
    assert not np.isnan(scorer.windows["main", "live"].mean())


def test_a_request_id_names_its_group_and_is_signed_if_secrets_are_configured(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    ids = RequestIds(["s" * 32])
    given = make_scorer(backbone, kernels, request_ids=ids).score(ask(), 0.0)
    assert given.response.request_id == given.impression.request_id
    assert ids.ours(given.response.request_id)
    assert given.response.request_id.startswith("main.")
