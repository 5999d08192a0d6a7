"""One suite over every variant of the backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from model.backbone.dataset import ProfileTable, histories
from model.backbone.foundation import FoundationBackbone
from model.backbone.fusion import AspectFusion
from model.backbone.interface import FrozenBackbone, round_representation
from model.backbone.pretrain import pretrain
from model.encoding.features import FeatureBatch, FeatureEncoder, ItemFeatures, UserFeatures
from tests.model.conftest import SIZES, SMALL, TEXT, World

Make = Callable[..., FoundationBackbone]
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain mean": {"gating": "plain"},
    "mean-gating": {"gating": "mean"},
    "cls-gating": {"gating": "cls"},
    "no domain map": {"domain_map": "none"},
    "a matrix per domain": {"domain_map": "full"},
    "aligned by JS": {"alignment": "js"},
    "aligned by MMD": {"alignment": "mmd"},
    "MLP trunk": {"trunk": "mlp"},
    "PLE trunk": {"trunk": "ple"},
    "conversions": {"tasks": "ctr_ctcvr"},
    "conversions over PLE": {"tasks": "ctr_ctcvr", "trunk": "ple"},
    "conversions over MLP": {"tasks": "ctr_ctcvr", "trunk": "mlp"},
}


@pytest.fixture(params=VARIANTS, name="variant")
def _variant(request: pytest.FixtureRequest, make_backbone: Make) -> FoundationBackbone:
    return make_backbone(**VARIANTS[request.param])


def one_request(world: World, n: int = 6) -> FeatureBatch:
    encoder = world.encoder
    items = [encoder.encode_item(item) for item in world.items[:n]]
    return encoder.batch(encoder.encode_user(world.users[1]), items, (1, 1, 2))


def test_it_is_a_backbone_that_a_kernel_can_stand_beside(variant: FoundationBackbone) -> None:
    assert isinstance(variant, FrozenBackbone)


def test_shapes_are_as_promised_and_all_is_finite(variant: FoundationBackbone, world: World) -> None:
    batch = one_request(world)
    x, content = variant.represent(batch), variant.content(batch)
    logits = variant.predict(x, batch.domain.expand(6, -1))
    assert x.shape == (6, variant.width)
    assert content.shape == (6, variant.content_width)
    assert logits.shape == (6, 2)
    for value in (x, content, logits):
        assert torch.isfinite(value).all()
    assert x.abs().max() < 100


def test_everything_is_frozen_after_pretraining(variant: FoundationBackbone) -> None:
    assert not variant.training
    assert all(not p.requires_grad and p.grad is None for p in variant.parameters())
    assert len(variant.fingerprint) == 64


def test_content_is_already_rounded_as_it_is_logged(variant: FoundationBackbone, world: World) -> None:
    content = variant.content(one_request(world))
    assert torch.equal(content, round_representation(content))


def test_conversion_logit_is_neutral_without_a_conversion_tower(variant: FoundationBackbone, world: World) -> None:
    batch = one_request(world)
    cvr = variant.predict(variant.represent(batch), batch.domain.expand(6, -1))[:, 1]
    assert bool((cvr == 0).all()) == (not variant.has_conversion)


def test_an_item_never_seen_is_placed_by_its_text_and_fields(variant: FoundationBackbone, world: World) -> None:
    encoder = world.encoder
    rng = np.random.default_rng(5)
    unseen = [ItemFeatures(f"new{i}", {"genres": ["war"]}, rng.normal(size=TEXT).astype(np.float32)) for i in range(2)]
    batch = encoder.batch(encoder.encode_user(world.users[0]), [encoder.encode_item(i) for i in unseen], (0, 0, 0))
    assert not torch.equal(*variant.content(batch))
    assert not torch.equal(*variant.represent(batch))


def test_the_domain_reaches_the_answer(variant: FoundationBackbone, world: World) -> None:
    encoder = world.encoder
    user, items = encoder.encode_user(world.users[0]), [encoder.encode_item(world.items[0])]
    batches = [encoder.batch(user, items, domain) for domain in ((1, 1, 1), (1, 3, 1))]
    one, two = (variant.predict(variant.represent(batch), batch.domain) for batch in batches)
    assert not torch.equal(one, two)


def test_conversions_are_learned_over_all_impressions(make_backbone: Make, world: World) -> None:
    model = make_backbone(tasks="ctr_ctcvr")
    table, ex = ProfileTable(world.encoder, world.users, world.items), world.examples
    batch = table.batch(*(torch.from_numpy(column) for column in (ex.user, ex.item, ex.domain)))
    p = torch.sigmoid(model.predict(model.represent(batch), batch.domain))
    assert ex.conversion is not None
    assert float((p[:, 0] * p[:, 1]).mean()) == pytest.approx(float(ex.conversion.mean()), abs=0.1)


@pytest.mark.parametrize("gating", ["plain", "mean", "cls", "domain"])
def test_gating_weights_are_a_distribution_over_the_aspects(gating: Any) -> None:
    fusion = AspectFusion(gating, 3, 8, 5)
    weights = fusion.weights(torch.randn(7, 3, 8), torch.randn(1, 5))
    torch.testing.assert_close(weights.sum(1), torch.ones(7))
    assert (weights >= 0).all()


def test_a_single_domain_row_serves_all_items_alike(backbone: FoundationBackbone, world: World) -> None:
    batch = one_request(world)
    x = backbone.represent(batch)
    torch.testing.assert_close(
        backbone.predict(x, batch.domain), backbone.predict(x, batch.domain.expand(6, -1)), rtol=1e-5, atol=1e-6
    )


def test_fingerprint_is_refused_before_training_has_ended(backbone: FoundationBackbone) -> None:
    with pytest.raises(RuntimeError, match="freeze"):
        _ = FoundationBackbone(SMALL, backbone.shape).fingerprint


def test_histories_hold_earlier_clicks_only(world: World) -> None:
    rows = world.encoder.encode_item(world.items[0]).row + np.arange(len(world.items))
    ex = world.examples
    past_rows = histories(ex, rows, 5)
    for i in range(0, len(ex), 37):
        past = [
            rows[ex.item[j]]
            for j in range(i)
            if ex.user[j] == ex.user[i] and ex.label[j] > 0 and ex.time[j] < ex.time[i]
        ][::-1][:5]
        assert past_rows[i][: len(past)].tolist() == [int(row) for row in past]
        assert (past_rows[i][len(past) :] == -1).all()


def test_history_is_read_from_the_stored_profile_and_missing_history_is_handled(world: World) -> None:
    config = SMALL.model_copy(update={"history_field": "recent", "history_length": 3})
    encoder = FeatureEncoder.from_json({**world.encoder.to_json(), "history_field": "recent", "history_length": 3})
    from model.config import PretrainConfig

    model, _ = pretrain(
        world.examples, world.users, world.items, encoder, domain_sizes=SIZES, backbone=config,
        config=PretrainConfig(epochs=1, batch_size=64),
    )  # fmt: skip
    items = [encoder.encode_item(item) for item in world.items[:4]]
    profiles: list[dict[str, Any]] = [{}, {"recent": ["i1"]}, {"recent": ["i1", "i2"]}]
    answers = [
        model.represent(encoder.batch(encoder.encode_user(UserFeatures("u1", fields)), items, (1, 1, 1)))
        for fields in profiles
    ]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[1], answers[2])
    without = one_request(world)
    with pytest.raises(ValueError, match="history"):
        model.represent(without)


def test_query_text_is_an_aspect_of_its_own(world: World, make_backbone: Make) -> None:
    model = FoundationBackbone(
        SMALL.model_copy(update={"query_text": True}), make_backbone().shape, world.encoder.digest
    ).freeze()
    batch = one_request(world)
    with pytest.raises(ValueError, match="query"):
        model.represent(batch)
    asked = [model.represent(batch.with_query(np.full(TEXT, value, dtype=np.float32))) for value in (0.0, 1.0)]
    assert not torch.equal(*asked)
