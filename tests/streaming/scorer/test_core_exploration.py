"""Explored requests in the scoring core: what is drawn, answered and logged, and who never explores."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec import UNSET

from model.backbone.foundation import FoundationBackbone
from model.control_users import ControlUsers
from model.exploration import NO_EXPLORATION, Exploration, by_score
from streaming.config import Config, ScorerConfig
from streaming.events import ServedImpression
from streaming.events.traffic import ExploredConvertingImpression, ExploredImpression, decode_traffic, encode_traffic
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.blend import Blend
from streaming.scorer.core import Scored, Scorer
from tests.streaming.scorer.core_parts import ITEMS, ask, live_scores
from tests.streaming.scorer.scoring_parts import make_backbone, make_kernels, make_scorer, packed, record

ALWAYS = Exploration(1.0, 100.0)
"""Draws nearly uniformly, so that sixty draws of one item would be a wonder."""


@pytest.fixture
def exploring(backbone: FoundationBackbone, kernels: ActiveKernels) -> Scorer:
    """Explores in every request."""
    return make_scorer(backbone, kernels, exploration=ALWAYS)


def shown(scored: Scored) -> list[str]:
    return [score.item_id for score in scored.response.scores]


@pytest.mark.parametrize("top_k", [None, 5, 2])
def test_only_the_first_place_is_drawn_and_the_same_items_are_shown(
    exploring: Scorer, scorer: Scorer, top_k: int | None
) -> None:
    best = shown(scorer.score(ask(top_k=top_k), 7.0))
    firsts = set()
    for _ in range(60):
        scored = exploring.score(ask(top_k=top_k), 7.0)
        explored = scored.response.explored
        assert explored is not UNSET
        items = shown(scored)
        assert items[0] == best[explored.place - 1]
        assert items[1:] == [item for item in best if item != items[0]]
        firsts.add(items[0])
    assert len(firsts) > 1


def test_scores_stay_what_the_model_says(exploring: Scorer, scorer: Scorer) -> None:
    plain = {score.item_id: score for score in scorer.score(ask(), 7.0).response.scores}
    explored = {score.item_id: score for score in exploring.score(ask(), 7.0).response.scores}
    assert explored == plain


def test_answer_and_log_say_what_was_drawn_and_how_probable_it_was(
    exploring: Scorer, backbone: FoundationBackbone
) -> None:
    scored = exploring.score(ask(), 7.0)
    keys = np.sort(live_scores(backbone, ITEMS, 5))[::-1]
    sampled = ALWAYS.sample(scored.response.request_id, keys)
    assert sampled is not None, "the request id alone decides the draw"
    explored, impression = scored.response.explored, scored.impression
    assert explored is not UNSET
    assert explored.place == sampled.place + 1
    assert explored.probability == pytest.approx(sampled.chances[sampled.place])
    assert isinstance(impression, ExploredImpression)
    assert impression.place == sampled.place
    propensity = impression.array("propensity")
    np.testing.assert_allclose(propensity[by_score(len(ITEMS), impression.place)], sampled.chances, rtol=1e-6)
    assert propensity[0] == pytest.approx(explored.probability)
    assert impression.items == shown(scored)
    logged = impression.array("live_logit")[by_score(len(ITEMS), impression.place)]
    assert (np.diff(logged) <= 0).all(), "rows of the arrays follow the shown order"
    assert decode_traffic(encode_traffic(impression)) == impression


def test_without_exploration_answer_and_record_are_as_before(scorer: Scorer) -> None:
    scored = scorer.score(ask(), 7.0)
    assert b"explored" not in msgspec.json.encode(scored.response)
    assert type(scored.impression) is ServedImpression
    assert Config().scorer.exploration == NO_EXPLORATION


def test_control_users_never_explore(backbone: FoundationBackbone, kernels: ActiveKernels) -> None:
    control = ControlUsers(0.5, "a test")
    scorer = make_scorer(backbone, kernels, exploration=ALWAYS, control=control)
    users = [f"user-{number}" for number in range(20)]
    for user in users:
        scored = scorer.score(msgspec.structs.replace(ask(), user_id=user), 0.0)
        assert (scored.response.explored is UNSET) == control.draw(user).control
    assert {control.draw(user).control for user in users} == {True, False}


@pytest.mark.parametrize("asked", [ask(ITEMS[:1]), ask([ITEMS[0]] * 3), ask(top_k=1)])
def test_one_shown_item_is_no_exploration(exploring: Scorer, asked: object) -> None:
    scored = exploring.score(asked, 0.0)  # type: ignore[arg-type]
    assert scored.response.explored is UNSET
    assert type(scored.impression) is ServedImpression


def test_the_frozen_arm_explores_by_its_own_scores_if_it_serves(
    backbone: FoundationBackbone, kernels: ActiveKernels
) -> None:
    impression = make_scorer(backbone, kernels, live_arm=False, exploration=ALWAYS).score(ask(), 0.0).impression
    assert isinstance(impression, ExploredImpression)
    assert impression.arm == "frozen"
    logged = impression.array("frozen_logit")[by_score(len(ITEMS), impression.place)]
    assert (np.diff(logged) <= 0).all()


def test_a_backbone_with_conversions_logs_the_draw_beside_their_fields() -> None:
    backbone = make_backbone(tasks="ctr_ctcvr")
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    made = make_scorer(backbone, kernels, blend=Blend(0.7), exploration=ALWAYS).score(ask(), 0.0)
    assert isinstance(made.impression, ExploredConvertingImpression)
    assert decode_traffic(encode_traffic(made.impression)) == made.impression
    assert len(made.impression.array("propensity")) == len(made.impression.array("cvr_live_logit")) == len(ITEMS)
    scores = [score.score for score in made.response.scores]
    assert sorted(scores[1:], reverse=True) == scores[1:], "the draw is among places by the blend"


def test_settings_that_cannot_be_meant_are_refused_by_name() -> None:
    for key, value in (
        ("explore_share", -0.1),
        ("explore_share", 1.1),
        ("explore_share", float("nan")),
        ("explore_temperature", 0.0),
        ("explore_temperature", -1.0),
        ("explore_temperature", float("nan")),
        ("explore_temperature", float("inf")),
    ):
        with pytest.raises(ValueError, match=key):
            ScorerConfig(**{key: value})
