"""Target statistics: out of fold in training, whole in serving, silent about what is unknown."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.first_order import regress
from model.backbone.shape import BackboneShape
from model.backbone.statistics import BLOCKS, STRENGTH, FittedStatistics, fit_statistics
from model.encoding.features import FeatureBatch
from model.encoding.profile import ItemFeatures, UserFeatures
from tests.model.conftest import SIZES, TEXT, World


def data_of(world: World) -> TrainingData:
    return TrainingData.of(world.examples, ProfileTable(world.encoder, world.users, world.items))


def fitted(world: World, data: TrainingData) -> FittedStatistics:
    return fit_statistics(BackboneShape.of(world.encoder, SIZES), world.encoder, data)


@given(example=st.integers(0, 199))
def test_target_statistics_exclude_the_label_of_their_own_example(example: int) -> None:
    world = World(examples=200)
    data = data_of(world)
    flipped = data.label.clone()
    flipped[example] = 1 - flipped[example]
    before, after = fitted(world, data), fitted(world, replace(data, label=flipped))
    own = before.block == before.block[example]
    assert torch.equal(before.columns(data)[own], after.columns(data)[own])
    assert not torch.equal(before.columns(data), after.columns(data))
    assert not torch.equal(
        before.whole(data.batch(torch.tensor([example]))), after.whole(data.batch(torch.tensor([example])))
    )


def test_folds_are_time_spans_with_equally_many_examples(world: World) -> None:
    block = fitted(world, data_of(world)).block
    assert torch.equal(block, block.sort().values)
    assert torch.bincount(block).tolist() == [len(world.examples) // BLOCKS] * BLOCKS


def test_a_user_statistic_follows_the_formula(world: World) -> None:
    data = data_of(world)
    whole = fitted(world, data).whole
    user = int(data.user[0])
    own = world.examples.user == user
    m = (world.examples.label.sum() + 1) / (len(world.examples) + 2)
    p = (world.examples.label[own].sum() + STRENGTH * m) / (own.sum() + STRENGTH)
    expected = math.log(p / (1 - p)) - math.log(m / (1 - m))
    seen = whole(data.batch(torch.tensor([0])))[0]
    assert seen[0].item() == pytest.approx(expected, abs=1e-6)
    assert seen[1].item() == pytest.approx(0.3 * math.log1p(own.sum()), abs=1e-6)


def test_the_out_of_fold_count_is_as_large_as_the_served_one_on_average(world: World) -> None:
    data = data_of(world)
    statistics = fitted(world, data)
    taught, served = (
        statistics.columns(data)[:, 1].mean(),
        statistics.whole(data.batch(torch.arange(len(data))))[:, 1].mean(),
    )
    assert float(taught) == pytest.approx(float(served), abs=0.02)


def unknown_batch(world: World) -> FeatureBatch:
    """A user and an item that pretraining has not seen, without a known value, in no declared domain."""
    user = world.encoder.encode_user(UserFeatures("nobody", {"job": "pilot"}))
    item = world.encoder.encode_item(ItemFeatures("nothing", {}, np.zeros(TEXT, dtype=np.float32)))
    return world.encoder.batch(user, [item], (0, 0, 0))


def test_unknown_values_have_neutral_statistics(world: World) -> None:
    statistics = fitted(world, data_of(world))
    seen = statistics.whole(unknown_batch(world))
    assert torch.equal(seen, torch.zeros_like(seen))
    for block in range(BLOCKS):
        assert not statistics.out_of_fold(unknown_batch(world), torch.tensor([block])).any()


def test_a_missing_value_has_neutral_statistics_although_pretraining_had_missing_values(world: World) -> None:
    users = [UserFeatures(user.user_id, {}) for user in world.users]
    data = TrainingData.of(world.examples, ProfileTable(world.encoder, users, world.items))
    columns = fitted(world, data).whole(data.batch(torch.arange(len(data))))
    assert columns[:, 0].any()  # the user's own
    assert not columns[:, 2:4].any()  # age and job


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_that_are_all_alike_give_finite_statistics_and_one_regression(world: World, label: float) -> None:
    data = data_of(world)
    data = replace(data, label=torch.full_like(data.label, label))
    columns = fitted(world, data).columns(data)
    weight, bias = regress(columns, data.label)
    logit = columns @ weight + bias
    assert torch.isfinite(logit).all()
    assert bool((torch.sigmoid(logit) > 0.9).all()) if label else bool((torch.sigmoid(logit) < 0.1).all())


def test_the_regression_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    x = generator.normal(size=(500, 4)).astype(np.float32)
    y = (generator.random(500) < 1 / (1 + np.exp(-(x @ [1.0, -0.5, 0.0, 2.0] + 0.3)))).astype(np.float32)
    weight, bias = regress(torch.from_numpy(x), torch.from_numpy(y))
    theirs = LogisticRegression(C=1.0, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(weight.numpy(), theirs.coef_[0], atol=2e-3)
    assert float(bias) == pytest.approx(float(theirs.intercept_[0]), abs=5e-3)


def test_added_rows_have_neutral_statistics(world: World) -> None:
    data = data_of(world)
    whole = fitted(world, data).whole
    batch = data.batch(torch.tensor([0]))
    before = whole(batch)
    whole.widen(2, 3)
    assert torch.equal(whole(batch), before)
    added = whole(
        replace(batch, user=torch.tensor([whole.sizes["user"] + 1]), item=torch.tensor([whole.sizes["item"] + 2]))
    )
    assert not added[0, [0, 1]].any()
