"""The scoring core on small real models: arms, ranking, what is logged, what is refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from features.represented import Represented
from model.backbone.foundation import FoundationBackbone
from model.encoding.domain import Domain
from model.encoding.query import EncodedQuery
from model.kernel.kernel import Kernel
from streaming.config import group_of_request
from streaming.events.decisions import Order
from streaming.events.request_ids import RequestIds
from streaming.events.traffic import FloatPayload
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.core import Scored, Scorer
from streaming.scorer.group_kernels import IDENTITY
from streaming.scorer.schema import DomainFacets, RequestRefused, ScoreRequest
from tests.streaming.scorer.scoring_parts import (
    SPACE,
    START,
    MadeUpFeatures,
    live_logit,
    make_backbone,
    make_kernel,
    make_kernels,
    make_scorer,
    ordered,
    packed,
    record,
)

HOME = DomainFacets("home", "unknown", "day")
ITEMS = [f"item-{i}" for i in range(12)]


def _ask(candidates: list[str] = ITEMS, **more: object) -> ScoreRequest:
    return ScoreRequest("user-1", candidates, **{"domain": HOME, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


@pytest.fixture
def kernels(backbone: FoundationBackbone) -> ActiveKernels:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    return kernels


@pytest.fixture
def scorer(backbone: FoundationBackbone, kernels: ActiveKernels) -> Scorer:
    return make_scorer(backbone, kernels)


def _frozen(backbone: FoundationBackbone, items: list[str]) -> np.ndarray:
    rows = MadeUpFeatures(backbone).represent("user-1", items, Domain("home", "unknown", "day"), 0.0)
    return rows.frozen_logit.numpy()


def _live(backbone: FoundationBackbone, items: list[str], version: int) -> np.ndarray:
    rows = MadeUpFeatures(backbone).represent("user-1", items, Domain("home", "unknown", "day"), 0.0)
    return live_logit(rows, version).numpy()


def test_the_response_is_ordered_by_the_live_arm_best_first(scorer: Scorer, backbone: FoundationBackbone) -> None:
    response = scorer.score(_ask(), 7.0).response
    expected = dict(zip(ITEMS, torch.from_numpy(_live(backbone, ITEMS, 5)).sigmoid().tolist(), strict=True))
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
        response = scorer.score(_ask(asked), 0.0).response
        assert len({score.score for score in response.scores}) == 2
        for kind in "ab":
            served = [score.item_id for score in response.scores if score.item_id[0] == kind]
            assert served == [item for item in asked if item[0] == kind]


def _serves_frozen(backbone: FoundationBackbone, scored: Scored) -> None:
    """Checks that order and scores are the frozen model's, and that the log also holds the kernel's."""
    frozen = _frozen(backbone, ITEMS)
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
    _serves_frozen(backbone, make_scorer(backbone, kernels, live_arm=False).score(_ask(), 0.0))


def test_a_frozen_group_gets_the_frozen_scores(backbone: FoundationBackbone, kernels: ActiveKernels) -> None:
    scorer = make_scorer(backbone, kernels)
    assert scorer.score(_ask(), 0.0).impression.arm == "live"
    kernels.apply_orders([ordered(Order("main", frozen=True))])
    _serves_frozen(backbone, scorer.score(_ask(), 0.0))
    kernels.apply_orders([ordered(Order("main"))])
    assert scorer.score(_ask(), 0.0).response.kernel_version > 0


def test_without_a_kernel_the_live_arm_equals_the_frozen_arm(backbone: FoundationBackbone) -> None:
    impression = make_scorer(backbone, make_kernels(backbone)).score(_ask(), 0.0).impression
    assert impression.live_logit == impression.frozen_logit


def test_a_new_kernel_serves_the_frozen_scores_bit_for_bit(backbone: FoundationBackbone) -> None:
    new = make_kernel(1, scale=0.0)
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1, kernel=new))])
    impression = make_scorer(backbone, kernels).score(_ask(), 0.0).impression
    assert impression.kernel_version == 1
    assert impression.live_logit == impression.frozen_logit


def test_the_impression_holds_what_was_served_in_the_served_order(scorer: Scorer, backbone: FoundationBackbone) -> None:
    scored = scorer.score(_ask(top_k=4), 7.0)
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
    np.testing.assert_allclose(impression.array("live_logit"), _live(backbone, impression.items, 5), rtol=1e-5)


def test_top_k_keeps_the_best(scorer: Scorer) -> None:
    everything = [s.item_id for s in scorer.score(_ask(), 0.0).response.scores]
    best = [s.item_id for s in scorer.score(_ask(top_k=3), 0.0).response.scores]
    assert best == everything[:3]
    assert len(scorer.score(_ask(top_k=99), 0.0).response.scores) == len(ITEMS)


def test_a_duplicate_candidate_is_scored_once(scorer: Scorer) -> None:
    response = scorer.score(_ask(["a", "b", "a"]), 0.0).response
    assert sorted(s.item_id for s in response.scores) == ["a", "b"]
    assert response.duplicates == 1


def test_no_candidates_are_refused_by_name(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match="candidates") as refused:
        scorer.score(_ask([]), 0.0)
    assert refused.value.problem.error == "empty_candidates"


@pytest.mark.parametrize("blank", [" ", "\t\n", "\u3000"])
def test_a_blank_identifier_is_refused_as_it_would_be_in_feedback(scorer: Scorer, blank: str) -> None:
    for request in (_ask(["a", blank]), ScoreRequest(blank, ["a"], HOME)):
        with pytest.raises(RequestRefused, match="blank"):
            scorer.score(request, 0.0)


def test_too_many_candidates_are_refused_with_the_key(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match=r"10000 candidates.*scorer\.max_candidates"):
        scorer.score(_ask([str(i) for i in range(10_000)]), 0.0)


def test_a_domain_without_a_group_is_refused(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match="night") as refused:
        scorer.score(_ask(domain=DomainFacets("home", "unknown", "night")), 0.0)
    assert refused.value.problem.error == "no_group"


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
    impression = scorer.score(_ask(domain=DomainFacets("cinema", "unknown", "day")), 0.0).impression
    assert impression.domain == Domain("unknown", "unknown", "day")
    assert counted == [1]
    scorer.score(_ask(), 0.0)
    assert counted == [1]


def test_a_kernel_without_finite_scores_is_deactivated_and_the_frozen_arm_serves(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    wild = Kernel(START, torch.full_like(START.features.identity(), 3e38))
    kernels.take([record(packed(backbone, 6, kernel=wild))])
    scored = make_scorer(backbone, kernels).score(_ask(), 0.0)
    assert scored.response.kernel_version == 0
    assert scored.impression.live_logit == scored.impression.frozen_logit
    assert kernels.current("main") is IDENTITY
    assert kernels.refusals[-1].reason == "non_finite_scores"


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
    first, second = scorer.score(_ask(), 0.0), scorer.score(_ask(), 0.0)
    assert [first.response.kernel_version, second.response.kernel_version] == [5, 6]
    for scored, version in ((first, 5), (second, 6)):
        expected = _live(backbone, scored.impression.items, version)
        np.testing.assert_allclose(scored.impression.array("live_logit"), expected, rtol=1e-5)


def test_the_warm_up_leaves_no_trace_in_the_score_windows(scorer: Scorer) -> None:
    scorer.warm_up(ITEMS)
    assert np.isnan(scorer.windows["main", "live"].mean())
    scorer.score(_ask(), 0.0)
    assert not np.isnan(scorer.windows["main", "live"].mean())


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
    seen, scored = _score_one_by_one(scorer, _ask([f"item-{index}" for index in range(candidates)]))
    assert seen == pauses
    assert len(scored.response.scores) == candidates == len(scored.impression.array("x"))


def test_slices_give_every_item_the_same_scores_as_alone(backbone: FoundationBackbone, kernels: ActiveKernels) -> None:
    scorer = make_scorer(backbone, kernels, max_candidates=1_000)
    items = [f"item-{index}" for index in range(600)]
    together = {s.item_id: s.score for s in scorer.score(_ask(items), 7.0).response.scores}
    for item in ("item-0", "item-249", "item-250", "item-599"):
        (alone,) = scorer.score(_ask([item]), 7.0).response.scores
        assert together[item] == pytest.approx(alone.score, abs=1e-6)


def test_a_kernel_swap_between_two_slices_affects_only_the_next_request(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    scorer = make_scorer(backbone, kernels, max_candidates=1_000)
    items = [f"item-{index}" for index in range(600)]
    before = scorer.score(_ask(items), 7.0).response
    slices = scorer.in_slices(_ask(items), 7.0)
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
        next(make_scorer(backbone, kernels).in_slices(_ask([str(i) for i in range(10_000)]), 0.0))


def test_a_request_id_names_its_group_and_is_signed_if_secrets_are_configured(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    ids = RequestIds(["s" * 32])
    given = make_scorer(backbone, kernels, request_ids=ids).score(_ask(), 0.0)
    assert given.response.request_id == given.impression.request_id
    assert ids.ours(given.response.request_id)
    assert given.response.request_id.startswith("main.")


# --- queries ---


def test_a_search_is_served_and_logged_as_represented_and_recommendations_are_unchanged(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    reads = MadeUpFeatures(backbone, reads_queries=True)
    searched, recommended = make_scorer(backbone, kernels, encoder=reads), make_scorer(backbone, kernels)
    plain, asked = searched.score(_ask(), 0.0), searched.score(_ask(query="war films"), 0.0)
    assert plain.response.scores == recommended.score(_ask(), 0.0).response.scores
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
    scorer.score(_ask([f"i{n}" for n in range(900)], query="war"), 0.0)
    assert encoder.asked == ["war"]


def test_a_backbone_without_query_aspects_refuses_a_query_by_name(scorer: Scorer) -> None:
    with pytest.raises(RequestRefused, match=r"'main' reads no query.*backbone\.query_aspects.*`\$\.query`") as refused:
        scorer.score(_ask(query="war"), 0.0)
    assert refused.value.problem.error == "no_query_aspect"


def test_a_blank_query_is_refused_and_a_long_or_empty_one_by_the_schema(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    scorer = make_scorer(backbone, kernels, encoder=MadeUpFeatures(backbone, reads_queries=True))
    with pytest.raises(RequestRefused, match="query is blank"):
        scorer.score(_ask(query="  "), 0.0)
    for query in ("", "x" * 513):
        body = msgspec.json.encode({"user_id": "u", "candidates": ["a"], "query": query})
        with pytest.raises(msgspec.ValidationError, match=r"\$\.query"):
            msgspec.json.decode(body, type=ScoreRequest)


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
    scored = scorer.score(_ask(candidates=["beyond", *ITEMS]), 0.0)
    assert scored.response.kernel_version == 5 and kernels.versions() == {"main": 5}
    assert sorted(scored.impression.items) == sorted(ITEMS)
    assert np.isfinite(scored.impression.array("x")).all()
    without = make_scorer(backbone, kernels).score(_ask(), 0.0).response.scores
    assert [one.item_id for one in scored.response.scores] == [one.item_id for one in without]
    # On some processors an item's last bits depend on the row in which it stands.
    assert [one.score for one in scored.response.scores] == pytest.approx([one.score for one in without], rel=1e-5)
    assert scored.response.duplicates == 0


def test_a_request_without_any_finite_score_is_refused_with_its_own_reason(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    scorer = make_scorer(backbone, kernels, encoder=Overflowing(backbone))
    with pytest.raises(RequestRefused) as refused:
        scorer.score(_ask(candidates=["beyond"]), 0.0)
    assert (refused.value.problem.error, refused.value.status) == ("not_finite", 503)
    scorer.warm_up(["beyond"])
    assert kernels.versions() == {"main": 5}
