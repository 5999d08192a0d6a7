"""One suite over every variant of the backbone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from model.backbone.dataset import ProfileTable
from model.backbone.foundation import FoundationBackbone
from model.backbone.fusion import AspectFusion
from model.backbone.interface import FrozenBackbone, round_representation
from model.backbone.past import past_events
from model.backbone.pretrain import pretrain
from model.config import HistorySpec, PretrainConfig
from model.encoding.features import FeatureBatch
from model.encoding.history import PAD
from model.encoding.profile import HistoryEvent, ItemFeatures
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
    "two towers": {"trunk": "dssm"},
    "two towers without statistics": {"trunk": "dssm", "target_statistics": False, "domain_map": "full"},
    "conversions over two towers": {"tasks": "ctr_ctcvr", "trunk": "dssm", "gating": "cls"},
}


@pytest.fixture(params=VARIANTS, name="variant")
def _variant(request: pytest.FixtureRequest, make_backbone: Make) -> FoundationBackbone:
    return make_backbone(**VARIANTS[request.param])


def one_request(world: World, n: int = 6) -> FeatureBatch:
    encoder = world.encoder
    items = [encoder.encode_item(item) for item in world.items[:n]]
    return encoder.batch(encoder.encode_user(world.users[1]), items, (1, 1, 2))


def test_the_foundation_model_satisfies_the_backbone_interface(variant: FoundationBackbone) -> None:
    assert isinstance(variant, FrozenBackbone)


def test_shapes_are_as_documented_and_all_values_are_finite(variant: FoundationBackbone, world: World) -> None:
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


def test_an_unknown_item_is_represented_by_its_text_and_fields(variant: FoundationBackbone, world: World) -> None:
    encoder = world.encoder
    rng = np.random.default_rng(5)
    unseen = [ItemFeatures(f"new{i}", {"genres": ["war"]}, rng.normal(size=TEXT).astype(np.float32)) for i in range(2)]
    batch = encoder.batch(encoder.encode_user(world.users[0]), [encoder.encode_item(i) for i in unseen], (0, 0, 0))
    assert not torch.equal(*variant.content(batch))
    assert not torch.equal(*variant.represent(batch))


def test_the_domain_changes_the_logit(variant: FoundationBackbone, world: World) -> None:
    encoder = world.encoder
    user, items = encoder.encode_user(world.users[0]), [encoder.encode_item(world.items[0])]
    batches = [encoder.batch(user, items, domain) for domain in ((1, 1, 1), (1, 3, 1))]
    one, two = (variant.predict(variant.represent(batch), batch.domain) for batch in batches)
    assert not torch.equal(one, two)


def test_conversions_are_learned_over_all_impressions(make_backbone: Make, world: World) -> None:
    model = make_backbone(tasks="ctr_ctcvr")
    table, ex = ProfileTable(world.encoder, world.users, world.items), world.examples
    user, item, domain = (torch.from_numpy(column) for column in (ex.user, ex.item, ex.domain))
    batch = table.batch(user, item, domain)
    p = torch.sigmoid(model.predict(model.represent(batch), batch.domain))
    assert ex.conversion is not None
    assert float((p[:, 0] * p[:, 1]).mean()) == pytest.approx(float(ex.conversion.mean()), abs=0.1)


@pytest.mark.parametrize("gating", ["plain", "mean", "cls", "domain"])
def test_gating_weights_are_a_distribution_over_the_aspects(gating: Any) -> None:
    fusion = AspectFusion(gating, 3, 8, 5)
    weights = fusion.weights(torch.randn(7, 3, 8), torch.randn(1, 5))
    torch.testing.assert_close(weights.sum(1), torch.ones(7))
    assert (weights >= 0).all()


def test_a_single_domain_row_applies_to_all_items(backbone: FoundationBackbone, world: World) -> None:
    batch = one_request(world)
    x = backbone.represent(batch)
    torch.testing.assert_close(
        backbone.predict(x, batch.domain), backbone.predict(x, batch.domain.expand(6, -1)), rtol=1e-5, atol=1e-6
    )


def test_fingerprint_is_refused_before_training_has_ended(backbone: FoundationBackbone) -> None:
    with pytest.raises(RuntimeError, match="freeze"):
        _ = FoundationBackbone(SMALL, backbone.shape).fingerprint


@pytest.mark.parametrize(("skips", "delay"), [(False, 0.0), (True, 0.0), (False, 3.0)])
def test_pretraining_histories_hold_only_labels_decided_before_the_request(
    world: World, skips: bool, delay: float
) -> None:
    ex = world.examples
    past = past_events(ex, HistorySpec(5, skips, delay))
    for i in range(0, len(ex), 37):
        known = [
            (ex.time[j], ex.item[j], ex.label[j] > 0)
            for j in range(len(ex))
            if ex.user[j] == ex.user[i] and (skips or ex.label[j] > 0) and ex.time[j] < ex.time[i] - delay
        ]
        expected, row = sorted(known)[-5:], past.moment[i]
        n = len(expected)
        assert past.item[row, :n].tolist() == [item for _, item, _ in expected]
        assert np.allclose(past.age[row, :n], [ex.time[i] - time for time, _, _ in expected])
        assert past.clicked[row, :n].tolist() == [clicked for _, _, clicked in expected]
        assert (past.item[row, n:] == PAD).all()


@pytest.mark.parametrize("name", ["pool", "gru4rec", "nextitnet", "sasrec", "bert4rec"])
def test_the_user_depends_on_recent_events_and_a_batch_without_histories_is_refused(world: World, name: str) -> None:
    config = SMALL.model_copy(update={"user_encoder": name, "history_length": 3, "history_width": 8})
    encoder = world.encoder
    model, report = pretrain(
        world.examples, world.users, world.items, encoder, domain_sizes=SIZES, backbone=config,
        config=PretrainConfig(epochs=1, batch_size=64, cloze_passes=1),
    )  # fmt: skip
    assert np.isfinite(report.validation_log_loss)
    items = {item.item_id: encoder.encode_item(item) for item in world.items[:4]}
    user, shown, ids = encoder.encode_user(world.users[1]), list(items.values()), list(items)
    events = [HistoryEvent(item_id, float(n), True) for n, item_id in enumerate(ids)]
    answers = [
        model.represent(encoder.batch(user, shown, (1, 1, 1), encoder.history(events[:n], items, 9.0)))
        for n in range(4)
    ]
    for one, next_one in pairwise(answers):
        assert not torch.equal(one, next_one)
    with pytest.raises(ValueError, match="history"):
        model.represent(one_request(world))
