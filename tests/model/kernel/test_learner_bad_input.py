"""The learner refuses invalid input by name without a change, and continues after degenerate input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as log_loss

from model.kernel.batch import MicroBatch
from tests.model.conftest import SIZES, VALUES
from tests.model.kernel.kernel_parts import batch, make, taught

FIELDS = ("x", "live", "label", "frozen_logit", "live_logit", "weight", "time")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_value_is_refused_by_the_name_of_its_field_and_changes_nothing(field: str, value: float) -> None:
    learner, one = taught(), batch()
    before = learner.snapshot()
    broken = getattr(one, field).clone()
    broken.view(-1)[3] = value
    changes: dict[str, Any] = {field: broken}
    with pytest.raises(ValueError, match=f"micro-batch: {field} has non-finite"):
        learner.learn(replace(one, **changes))
    assert learner.snapshot() == before


@pytest.mark.parametrize("field", ["x", "live", "domain", "weight", "frozen_logit"])
def test_a_wrong_shape_is_refused_by_the_name_of_its_field(field: str) -> None:
    value = getattr(batch(), field)
    changes: dict[str, Any] = {field: torch.cat([value, value], dim=-1)}
    with pytest.raises(ValueError, match=f"micro-batch: {field} has shape"):
        make().learn(replace(batch(), **changes))


def test_values_of_fewer_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="micro-batch: values has shape"):
        make().learn(replace(batch(), values=batch().values[:-1]))


@pytest.mark.parametrize(("field", "value"), [("label", 7.0), ("label", -1.0), ("weight", -1.0)])
def test_an_invalid_label_or_weight_is_refused_by_name(field: str, value: float) -> None:
    one = batch()
    getattr(one, field)[3] = value
    with pytest.raises(ValueError, match=f"micro-batch: {field} has a value"):
        make().learn(one)


@pytest.mark.parametrize("index", [-1, SIZES[1]])
def test_an_undeclared_domain_is_refused(index: int) -> None:
    one = batch()
    one.domain[3, 1] = index
    with pytest.raises(ValueError, match="domain has an index outside"):
        make().learn(one)


@pytest.mark.parametrize("value", [-2, VALUES])
def test_an_item_value_that_the_descriptor_lacks_is_refused(value: int) -> None:
    one = batch()
    one.values[3, 1] = value
    with pytest.raises(ValueError, match=f"values has a number outside -1 to {VALUES - 1}"):
        make().learn(one)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        make().learn(batch().select(torch.zeros(0, dtype=torch.int64)))


def one_user(one: MicroBatch) -> MicroBatch:
    return replace(one, x=one.x[:1].expand_as(one.x).contiguous())


def one_item(one: MicroBatch) -> MicroBatch:
    return replace(one, values=one.values[:1].expand_as(one.values).contiguous())


def constant(one: MicroBatch) -> MicroBatch:
    return one_user(one_item(replace(one, live=torch.full_like(one.live, 2.0), frozen_logit=0 * one.frozen_logit)))


ODD: dict[str, Callable[[MicroBatch], MicroBatch]] = {
    "constant features": constant,
    "one user": one_user,
    "one item": one_item,
    "no values": lambda one: replace(one, values=torch.full_like(one.values, -1)),
    "no slots": lambda one: replace(one, values=one.values[:, :0]),
    "all clicks": lambda one: replace(one, label=torch.ones(len(one))),
    "no clicks": lambda one: replace(one, label=torch.zeros(len(one))),
    "batch of one": lambda one: one.select(torch.tensor([0])),
    "scores of 1e30": lambda one: replace(one, frozen_logit=1e30 * one.frozen_logit),
    "live features of 1e30": lambda one: replace(one, live=1e30 * one.live),
    "the largest x": lambda one: replace(one, x=6e4 * one.x.sign()),
    "columns that are the same": lambda one: replace(one, live=one.live[:, :1].expand_as(one.live).contiguous()),
    "no weight": lambda one: replace(one, weight=0 * one.weight),
    "scores that are never right": lambda one: replace(one, frozen_logit=20 - 40 * one.label),
}


@pytest.mark.parametrize("what", ODD)
def test_degenerate_batches_are_learned_and_learning_continues(what: str) -> None:
    learner = make()
    for seed in range(40):
        one = ODD[what](batch(64, seed=seed))
        report = learner.learn(one)
        assert bool(torch.isfinite(report.candidate_logit).all())
        assert bool(torch.isfinite(learner.candidate.weights).all())
    assert learner.nats() >= -1e-3
    for seed in range(100, 160):
        learner.learn(batch(64, seed=seed))
    asked = batch(300, seed=999)
    assert log_loss(learner.score(asked), asked.label) < log_loss(asked.frozen_logit, asked.label)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_only_clicks_or_no_clicks_lead_to_high_or_low_scores(label: float) -> None:
    learner = make()
    for seed in range(60):
        learner.learn(replace(batch(64, seed=seed), label=torch.full((64,), label)))
    assert float((torch.sigmoid(learner.score(batch(seed=99))) - label).abs().mean()) < 0.1


def test_an_example_with_zero_weight_changes_nothing() -> None:
    learner, one = make(), batch()
    learner.learn(replace(one, weight=torch.zeros(len(one))))
    assert learner.distance() == pytest.approx(0.0, abs=1e-5)


def test_the_order_of_examples_in_a_batch_hardly_matters() -> None:
    one, other, turned = make(), make(), torch.arange(31, -1, -1)
    for seed in range(8):
        one.learn(batch(seed=seed))
        other.learn(batch(seed=seed).select(turned))
    torch.testing.assert_close(one.candidate.weights, other.candidate.weights, rtol=1e-3, atol=1e-4)
