"""The kernel's start: the log is seen before it is counted, T learns nothing from it, and few rows are enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from features.config import LiveConfig
from features.live.features import LiveFeatures
from features.live.layout import OVERALL, Crossing, LiveLayout
from lab.kernel_start import PretrainingLog, count_log, kernel_start
from lab.represented import represent_pairs
from model.backbone.dataset import ProfileTable
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.config import KernelConfig
from model.encoding.domain import DomainSpace
from model.encoding.item_values import ItemValues
from model.kernel.learner import prior_precision
from model.kernel.start import KernelStart
from tests.model.conftest import SCHEMA, World, backbone, make_backbone, world

__all__ = ["backbone", "make_backbone", "world"]

SPACE = DomainSpace(SCHEMA.domains)
BATCH = 128


class Shop:
    """The small world's log and what a start is made of."""

    def __init__(self, world: World, backbone: FoundationBackbone, examples: Examples | None = None) -> None:
        self.profiles = ProfileTable(world.encoder, world.users, world.items)
        self.backbone = backbone
        users, items = [user.user_id for user in world.users], [item.item_id for item in world.items]
        encoded = (self.profiles, world.encoder)
        self.log = PretrainingLog.of(examples or world.examples, users, items, SPACE, encoded)
        crossing = Crossing.of(ItemValues(world.encoder), SPACE)
        self.layout = LiveLayout.of(LiveConfig(), backbone.content_width, crossing)
        self.live = LiveFeatures(self.layout, LiveConfig())

    def start(self, held_out: NDArray[np.float32], **changes: float) -> KernelStart:
        config = KernelConfig.model_validate(changes)
        return kernel_start(self.log, self.live, (self.backbone, self.profiles), held_out, config)


def logits(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def flipped(examples: Examples, rows: slice) -> Examples:
    label = examples.label.copy()
    label[rows] = 1 - label[rows]
    return replace(examples, label=label)


def test_the_features_of_an_example_exclude_its_own_label(world: World, backbone: FoundationBackbone) -> None:
    """At the first step all scores are the held-out logits, so the precision tells what was seen, and no label."""
    n = len(world.examples)
    last = n - n % BATCH  # the newest batch is the one that teaches
    held_out = logits(n - last)
    as_it_was = Shop(world, backbone).start(held_out)
    own = Shop(world, backbone, flipped(world.examples, slice(last, n))).start(held_out)
    before = Shop(world, backbone, flipped(world.examples, slice(last - BATCH, last))).start(held_out)
    assert torch.equal(own.precision, as_it_was.precision)
    assert not torch.equal(own.mean, as_it_was.mean)
    assert not torch.equal(before.precision, as_it_was.precision)


def test_the_whole_log_is_counted_and_residual_features_stay_zero(world: World, backbone: FoundationBackbone) -> None:
    shop, fresh = Shop(world, backbone), Shop(world, backbone)
    shop.start(logits(100))
    count_log(fresh.live, fresh.log, world.examples.time)
    rows = {(row.kind, row.key): row for row in shop.live.rows()}
    assert rows.keys() == {(row.kind, row.key) for row in fresh.live.rows()}
    for row in fresh.live.rows():
        assert rows[row.kind, row.key].values.tobytes() == row.values.tobytes()
        assert not row.values[: shop.layout.residuals_of(row.kind)].any()
    overall = rows["domain", OVERALL].values[-2:]
    assert overall.tolist() == [len(world.examples), world.examples.label.sum()]
    shown = np.bincount(world.examples.item, minlength=40)
    assert all(rows["item", f"i{n}"].values[-2] == count for n, count in enumerate(shown) if count)


def test_weights_of_residual_features_stay_at_their_prior(world: World, backbone: FoundationBackbone) -> None:
    start = Shop(world, backbone).start(logits(400))
    features = start.features
    residuals = slice(2 + features.counters, features.direct)
    prior = prior_precision(features)
    assert not start.mean[residuals].any()
    assert not start.direct_mean[residuals].any()
    assert torch.equal(start.precision[residuals, residuals], torch.diag(prior[residuals]))
    assert not start.precision[residuals, : residuals.start].any()
    assert start.residuals == len(start.live_names) - features.counters == 24
    assert start.live_names == Shop(world, backbone).layout.names


def test_the_slope_is_learned_from_held_out_frozen_logits(world: World, backbone: FoundationBackbone) -> None:
    n = 400
    held_out = (6 * world.examples.label[-n:] - 3).astype(np.float32)
    right, wrong = Shop(world, backbone).start(held_out), Shop(world, backbone).start(-held_out)
    assert float(right.direct_mean[0]) > 0.9
    assert float(wrong.direct_mean[0]) < 0
    assert right.examples == n


def test_the_same_log_gives_the_same_bytes(world: World, backbone: FoundationBackbone) -> None:
    one, other = (Shop(world, backbone).start(logits(200)) for _ in range(2))
    assert one.to_bytes() == other.to_bytes()
    assert KernelStart.from_bytes(one.to_bytes()).digest == one.digest


def test_rank_and_beta_are_those_of_the_configuration(world: World, backbone: FoundationBackbone) -> None:
    assert Shop(world, backbone).start(logits(50), rank=1, beta=8.0).compression.rank == 1
    assert Shop(world, backbone).start(logits(50), beta=8.0).compression.beta == 8.0


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_a_pretraining_half_of_few_rows_is_enough(rows: int, world: World, backbone: FoundationBackbone) -> None:
    shop = Shop(world, backbone, world.examples.select(slice(0, rows)))
    start = shop.start(logits(max(rows // 10, 1)))
    assert all(bool(torch.isfinite(values).all()) for values in (start.mean, start.direct_mean, start.precision))
    assert KernelStart.from_bytes(start.to_bytes()).digest == start.digest


def test_without_held_out_rows_it_starts_as_the_frozen_model(world: World, backbone: FoundationBackbone) -> None:
    start = Shop(world, backbone).start(logits(0))
    assert torch.equal(start.mean, start.features.identity())
    assert torch.equal(start.precision, torch.diag(prior_precision(start.features)))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_log_with_only_clicks_or_without_clicks_gives_finite_weights(
    label: float, world: World, backbone: FoundationBackbone
) -> None:
    examples = replace(world.examples, label=np.full_like(world.examples.label, label))
    start = Shop(world, backbone, examples).start(logits(300))
    assert bool(torch.isfinite(start.mean).all())
    assert float(start.mean.abs().max()) < 10


def test_with_one_user_and_one_item_only_counters_and_the_slope_remain(
    world: World, backbone: FoundationBackbone
) -> None:
    examples = replace(world.examples, user=0 * world.examples.user, item=0 * world.examples.item)
    examples = replace(examples, domain=0 * examples.domain)
    start = Shop(world, backbone, examples).start(logits(300))
    assert start.compression.rank == 0
    assert start.descriptor.width == 1
    assert bool(torch.isfinite(start.mean).all())


def test_a_request_is_the_examples_of_one_user_domain_and_time(world: World, backbone: FoundationBackbone) -> None:
    examples = world.examples.select(slice(0, 8))
    user, time = np.array([0, 0, 0, 1, 1, 0, 0, 0]), np.array([0.0, 0, 1, 1, 1, 1, 2, 2])
    domain = np.zeros((8, 3), dtype=np.int64)
    domain[7] = 1
    log = Shop(world, backbone, replace(examples, user=user, time=time, domain=domain)).log
    assert [(part.start, part.stop) for part in log.requests()] == [(0, 2), (2, 3), (3, 5), (5, 6), (6, 7), (7, 8)]
    whole = Shop(world, backbone).log
    batches = list(whole.batches())
    assert [part for batch in batches for part in batch] == list(whole.requests())
    assert all(batch[-1].stop - batch[0].start >= BATCH for batch in batches[:-1])


def test_representations_equal_those_of_serving(world: World, backbone: FoundationBackbone) -> None:
    shop = Shop(world, backbone)
    examples = shop.log.examples
    pairs = represent_pairs(backbone, shop.profiles, examples.user, examples.item, examples.domain)
    x, frozen = pairs.x.astype(np.float32), pairs.frozen_logit
    assert np.array_equal(x, x.astype(np.float16).astype(np.float32))
    domain = torch.from_numpy(world.examples.domain)
    with torch.no_grad():
        assert np.allclose(backbone.predict(torch.from_numpy(x), domain)[:, 0].numpy(), frozen, atol=1e-5)
