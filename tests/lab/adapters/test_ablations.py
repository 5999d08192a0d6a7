"""Each ablation changes the one thing that it names, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lab.adapters import ADAPTERS, AdapterContext, StreamBatch
from lab.adapters.ablations import ABLATIONS
from lab.adapters.iak import (
    unlearned,
    without_compression,
    without_counters,
    without_matching,
    without_residual_features,
    without_trust,
)
from model.config import LearnerConfig
from model.kernel.learner import Learner, prior_precision
from model.kernel.start import KernelStart
from model.kernel.trust import FROZEN, Trust
from tests.lab.adapters.batches import batch_of
from tests.model.conftest import LIVE, RESIDUALS, SIZES


def taught_start(context: AdapterContext) -> KernelStart:
    """A start that has learned something of everything."""
    start = context.start
    learner = Learner(start, LearnerConfig(), fingerprint="f", domain_sizes=SIZES)
    for seed in range(4):
        learner.learn(batch_of(context, seed=seed).micro)
    long = learner._long
    return replace(
        start,
        mean=long.means[0].clone(),
        direct_mean=long.means[1].clone(),
        precision=long.precision.clone(),
        examples=800,
    )


def scored(name: str, context: AdapterContext, asked: StreamBatch) -> torch.Tensor:
    adapter = ADAPTERS[name].build(context, 0.0)
    for seed in range(5):
        adapter.learn(batch_of(context, seed=seed))
    return adapter.score(asked)


def test_every_ablation_names_its_part_and_runs_only_when_requested() -> None:
    assert all(spec.ablation and spec.part and spec.family == "kernel" for spec in ABLATIONS.values())
    assert len({spec.part for spec in ABLATIONS.values()}) == len(ABLATIONS)
    assert {"counters", "T", "compression", "matching", "trust"} <= {spec.part for spec in ABLATIONS.values()}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_another_kernel(name: str, context: AdapterContext) -> None:
    context, asked = replace(context, start=taught_start(context)), batch_of(context, seed=9)
    assert not torch.equal(scored(name, context, asked), scored("iak", context, asked))


@pytest.mark.parametrize(
    ("name", "columns"), [("iak-no-live", slice(0, RESIDUALS)), ("iak-no-counters", slice(RESIDUALS, LIVE))]
)
def test_an_ablated_input_is_ignored_and_the_others_are_used(
    name: str, columns: slice, context: AdapterContext
) -> None:
    asked = batch_of(context, seed=9)
    blind, seen = asked.micro.live.clone(), asked.micro.live.clone()
    blind[:, columns] += 1
    rest = [n for n in range(LIVE) if n not in range(LIVE)[columns]]
    seen[:, rest] += 1
    before = scored(name, context, asked)
    assert torch.equal(scored(name, context, replace(asked, micro=replace(asked.micro, live=blind))), before)
    assert not torch.equal(scored(name, context, replace(asked, micro=replace(asked.micro, live=seen))), before)


def test_counters_and_residuals_together_are_all_live_features(context: AdapterContext) -> None:
    micro, start = batch_of(context).micro, context.start
    left = without_counters(micro, start).live + without_residual_features(micro, start).live
    assert torch.equal(left, micro.live)


def test_without_first_weights_it_starts_at_the_prior(context: AdapterContext) -> None:
    taught = taught_start(context)
    start = unlearned(taught, 0)
    assert torch.equal(start.mean, taught.features.identity())
    assert torch.equal(start.precision, torch.diag(prior_precision(taught.features)))
    assert start.compression is taught.compression and start.descriptor is taught.descriptor


def test_without_compression_there_are_as_many_random_directions(context: AdapterContext) -> None:
    taught = taught_start(context)
    start, again, other = (without_compression(taught, seed) for seed in (1, 1, 2))
    projection = start.compression.projection
    assert projection.shape == taught.compression.projection.shape
    torch.testing.assert_close(projection.T @ projection, torch.eye(projection.shape[1]), atol=1e-5, rtol=0)
    assert torch.equal(projection, again.compression.projection)
    assert not torch.equal(projection, other.compression.projection)
    assert start.features.width == taught.features.width


def test_without_matching_neither_x_nor_the_values_are_used(context: AdapterContext) -> None:
    context, asked = replace(context, start=taught_start(context)), batch_of(context, seed=9)
    micro = asked.micro
    before = scored("iak-no-matching", context, asked)
    for changed in (replace(micro, x=-micro.x), replace(micro, values=torch.full_like(micro.values, -1))):
        other = replace(asked, micro=changed)
        assert torch.equal(scored("iak-no-matching", context, other), before)
        assert not torch.equal(scored("iak", context, other), scored("iak", context, asked))


def test_without_matching_the_direct_weights_are_those_of_the_start(context: AdapterContext) -> None:
    taught = taught_start(context)
    start = without_matching(taught, 0)
    direct = taught.features.direct
    assert start.features.width == direct + 1
    assert torch.equal(start.mean[:direct], taught.direct_mean)
    assert torch.equal(start.precision[:direct, :direct], taught.precision[:direct, :direct])


def test_without_trust_the_shares_stay_as_they_are() -> None:
    trust = Trust(without_trust(LearnerConfig()))
    before = trust.weights.clone()
    label = torch.ones(128)
    for _ in range(50):
        trust.update(torch.stack([5 * label, -5 * label, 0 * label, 0 * label]), label, label)
    torch.testing.assert_close(trust.weights, before, atol=1e-4, rtol=0)
    assert float(trust.weights[FROZEN]) < 1e-6
