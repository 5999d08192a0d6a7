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
    learner, examples = taught(), batch()
    before = learner.snapshot()
    broken = getattr(examples, field).clone()
    broken.view(-1)[3] = value
    changes: dict[str, Any] = {field: broken}
    with pytest.raises(ValueError, match=f"micro-batch: {field} has non-finite"):
        learner.learn(replace(examples, **changes))
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
    examples = batch()
    getattr(examples, field)[3] = value
    with pytest.raises(ValueError, match=f"micro-batch: {field} has a value"):
        make().learn(examples)


@pytest.mark.parametrize("index", [-1, SIZES[1]])
def test_an_undeclared_domain_is_refused(index: int) -> None:
    examples = batch()
    examples.domain[3, 1] = index
    with pytest.raises(ValueError, match="domain has an index outside"):
        make().learn(examples)


@pytest.mark.parametrize("value", [-2, VALUES])
def test_an_item_value_that_the_descriptor_lacks_is_refused(value: int) -> None:
    examples = batch()
    examples.values[3, 1] = value
    with pytest.raises(ValueError, match=f"values has a number outside -1 to {VALUES - 1}"):
        make().learn(examples)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        make().learn(batch().select(torch.zeros(0, dtype=torch.int64)))


def one_user(examples: MicroBatch) -> MicroBatch:
    return replace(examples, x=examples.x[:1].expand_as(examples.x).contiguous())


def one_item(examples: MicroBatch) -> MicroBatch:
    return replace(examples, values=examples.values[:1].expand_as(examples.values).contiguous())


def constant(examples: MicroBatch) -> MicroBatch:
    return one_user(
        one_item(replace(examples, live=torch.full_like(examples.live, 2.0), frozen_logit=0 * examples.frozen_logit))
    )


ODD: dict[str, Callable[[MicroBatch], MicroBatch]] = {
    "constant features": constant,
    "one user": one_user,
    "one item": one_item,
    "no values": lambda examples: replace(examples, values=torch.full_like(examples.values, -1)),
    "no slots": lambda examples: replace(examples, values=examples.values[:, :0]),
    "all clicks": lambda examples: replace(examples, label=torch.ones(len(examples))),
    "no clicks": lambda examples: replace(examples, label=torch.zeros(len(examples))),
    "batch of one": lambda examples: examples.select(torch.tensor([0])),
    "scores of 1e30": lambda examples: replace(examples, frozen_logit=1e30 * examples.frozen_logit),
    "live features of 1e30": lambda examples: replace(examples, live=1e30 * examples.live),
    "the largest x": lambda examples: replace(examples, x=6e4 * examples.x.sign()),
    "columns that are the same": lambda examples: replace(
        examples, live=examples.live[:, :1].expand_as(examples.live).contiguous()
    ),
    "no weight": lambda examples: replace(examples, weight=0 * examples.weight),
    "scores that are never right": lambda examples: replace(examples, frozen_logit=20 - 40 * examples.label),
}


@pytest.mark.parametrize("what", ODD)
def test_degenerate_batches_are_learned_and_learning_continues(what: str) -> None:
    learner = make()
    for seed in range(40):
        examples = ODD[what](batch(64, seed=seed))
        report = learner.learn(examples)
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
    learner, examples = make(), batch()
    learner.learn(replace(examples, weight=torch.zeros(len(examples))))
    assert learner.distance() == pytest.approx(0.0, abs=1e-5)


def test_the_order_of_examples_in_a_batch_hardly_matters() -> None:
    learner, other, turned = make(), make(), torch.arange(31, -1, -1)
    for seed in range(8):
        learner.learn(batch(seed=seed))
        other.learn(batch(seed=seed).select(turned))
    torch.testing.assert_close(learner.candidate.weights, other.candidate.weights, rtol=1e-3, atol=1e-4)
