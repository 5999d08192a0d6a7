"""The learner: test before train, and never worse for long."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits as log_loss

from model.container import unpack
from tests.model.conftest import LIVE, RESIDUALS
from tests.model.kernel.kernel_parts import START, batch, make, taught

# --- test, then train ---


def test_a_new_learner_serves_the_frozen_model_bit_for_bit() -> None:
    examples = batch()
    assert torch.equal(make().score(examples), examples.frozen_logit)
    assert make().distance() == 0.0


def test_the_report_holds_the_logits_from_before_and_after_learning() -> None:
    learner, examples = taught(), batch(seed=9)
    before = learner.score(examples)
    report = learner.learn(examples)
    torch.testing.assert_close(report.candidate_logit, before, rtol=0, atol=1e-6)
    torch.testing.assert_close(report.learned_logit, learner.score(examples), rtol=0, atol=1e-6)
    assert float((report.learned_logit - before).abs().max()) > 1e-3
    assert report.examples == len(examples)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.lists(st.booleans(), min_size=32, max_size=32))
def test_the_reported_logit_does_not_depend_on_the_labels(seed: int, flips: list[bool]) -> None:
    examples = batch(seed=seed)
    flipped = replace(examples, label=(examples.label - torch.tensor(flips).float()).abs())
    assert torch.equal(taught(2).learn(examples).candidate_logit, taught(2).learn(flipped).candidate_logit)


def test_the_learner_learns_effects_that_the_frozen_model_lacks() -> None:
    learner, asked = make(), batch(500, seed=99)
    frozen = log_loss(asked.frozen_logit, asked.label)
    for seed in range(30):
        learner.learn(batch(128, seed=seed))
    assert log_loss(learner.score(asked), asked.label) < 0.5 * frozen


def test_the_served_logit_is_the_mixture_of_the_arms() -> None:
    learner, examples = taught(12), batch(seed=20)
    arms = learner._arm_logits(START.features.features(examples.inputs), examples.frozen_logit)
    mixed = learner._trust.weights.float() @ arms
    torch.testing.assert_close(learner.score(examples), mixed, rtol=1e-4, atol=1e-4)
    assert sum(learner.arms.values()) == pytest.approx(1.0)


def test_the_report_holds_the_arms_and_the_evidence() -> None:
    report = taught().learn(batch(seed=7))
    assert sum(report.arms.values()) == pytest.approx(1.0)
    assert 0 < report.matching < 1


def test_nats_grow_from_zero_and_the_gain_of_a_repeated_example_falls() -> None:
    learner, examples = make(), batch()
    assert learner.nats() == pytest.approx(0.0, abs=1e-3)
    first = learner.gain(examples)
    for seed in range(40):
        learner.learn(batch(128, seed=seed))
    assert learner.nats() > 1
    assert first.shape == (len(examples),)
    assert bool((first > 0).all())
    assert float(learner.gain(examples).mean()) < float(first.mean())


def test_a_published_kernel_does_not_change_while_learning_continues() -> None:
    learner, examples = taught(), batch(seed=50)
    kernel = learner.candidate
    before = kernel.logit(examples.inputs)
    for seed in range(10, 15):
        learner.learn(batch(seed=seed))
    assert torch.equal(kernel.logit(examples.inputs), before)


# --- never worse for long ---


def test_with_inverted_labels_the_learner_soon_serves_no_worse_than_the_frozen_model() -> None:
    learner = make()
    for seed in range(40):
        learner.learn(batch(128, seed=seed))
    # What was learned is the opposite of what is now true, and the frozen model is right.
    worse = []
    for seed in range(100, 120):
        true = batch(128, seed=seed)
        misleading = replace(true, label=1 - true.label, frozen_logit=4 - 8 * true.label)
        misleading = replace(misleading, live_logit=learner.score(misleading))
        worse.append(float(log_loss(learner.learn(misleading).candidate_logit, misleading.label)))
    assert worse[0] > 0.3
    assert max(worse[5:]) < 0.1


def test_random_labels_cost_little_against_the_frozen_model() -> None:
    learner, lost = make(), []
    for seed in range(80):
        examples = batch(128, seed=seed)
        label = (
            torch.rand(128, generator=torch.Generator().manual_seed(seed)) < torch.sigmoid(examples.frozen_logit)
        ).float()
        report = learner.learn(replace(examples, label=label))
        lost.append(float(log_loss(report.candidate_logit, label) - log_loss(examples.frozen_logit, label)))
    assert sum(lost) / len(lost) < 0.01
    assert sum(lost[40:]) / 40 < 0.005


def test_a_learner_recovers_from_wrong_labels() -> None:
    learner = make()
    for seed in range(20):
        examples = batch(128, seed=seed)
        learner.learn(replace(examples, label=1 - examples.label))
    for seed in range(20, 60):
        learner.learn(batch(128, seed=seed))
    asked = batch(500, seed=99)
    assert log_loss(learner.score(asked), asked.label) < log_loss(asked.frozen_logit, asked.label)


# --- sizes ---


def test_learned_parameters_are_counted() -> None:
    learner = make()
    assert learner.parameters == START.features.width + 4
    tensors, _ = unpack(learner.snapshot())
    assert learner.state_bytes == sum(tensor.nbytes for tensor in tensors.values())


def test_residual_features_precede_the_counters() -> None:
    features = START.features
    assert (features.residuals, features.counters) == (RESIDUALS, LIVE - RESIDUALS)
