"""One suite of promises over every form of the paper's kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.adapters import AdapterContext, StreamBatch
from lab.adapters.gradient import GradientAdapter
from lab.adapters.paper.adapter import paper
from lab.adapters.paper.bank import DomainActivation
from lab.adapters.paper.batches import DomainBatches
from lab.adapters.paper.bottleneck import gaussian_kl, sample
from lab.adapters.paper.core import EncoderDecoder
from lab.adapters.paper.kernel import PaperKernel
from lab.adapters.paper.objective import paper_loss
from lab.adapters.paper.settings import PaperSettings
from model.backbone.interface import fingerprint
from tests.lab.adapters.batches import batch_of
from tests.model.conftest import SIZES

Make = Callable[..., GradientAdapter]
FORMS: dict[str, dict[str, Any]] = {
    "reading A": {"reading": "A"},
    "reading B": {"reading": "B"},
    "reading D": {"reading": "D"},
    "one per region": {"bank_facets": ("region",)},
    "one per domain, reading A": {"reading": "A", "bank_facets": ("scene", "region", "period")},
    "one per region and period, reading B": {"reading": "B", "bank_facets": ("region", "period")},
}


@pytest.fixture(params=FORMS, name="settings")
def _settings(request: pytest.FixtureRequest) -> PaperSettings:
    return PaperSettings(latent=4, hidden=8, domain_width=3, **FORMS[request.param])


def kernel_of(settings: PaperSettings, context: AdapterContext, seed: int = 0) -> PaperKernel:
    return PaperKernel(settings, context.backbone.width, SIZES, seed)


def one_domain(batch: StreamBatch, domain: tuple[int, int, int]) -> StreamBatch:
    there = torch.tensor([domain]).expand(len(batch), -1).clone()
    return replace(batch, micro=replace(batch.micro, domain=there))


def moved(settings: PaperSettings, context: AdapterContext) -> PaperKernel:
    """A kernel all of whose parameters, also those that start at zero, are something."""
    kernel, generator = kernel_of(settings, context), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return kernel


def test_a_new_kernel_is_the_frozen_model_bit_for_bit(settings: PaperSettings, context: AdapterContext) -> None:
    micro, kernel = batch_of(context).micro, kernel_of(settings, context)
    frozen = context.backbone.predict(micro.x, micro.domain)[:, 0]
    for noise in (None, torch.Generator().manual_seed(0)):
        assert torch.equal(kernel(context.backbone, micro.x, micro.domain, noise).logit, frozen)


def test_every_parameter_learns_and_the_backbone_is_unchanged(settings: PaperSettings, context: AdapterContext) -> None:
    kernel, micro = kernel_of(settings, context), batch_of(context).micro
    before, backbone = [p.detach().clone() for p in kernel.parameters()], fingerprint(context.foundation)
    optimiser, noise = torch.optim.Adam(kernel.parameters(), 1e-2), torch.Generator().manual_seed(0)
    for step in range(1, 6):
        optimiser.zero_grad()
        output = kernel(context.backbone, micro.x, micro.domain, noise)
        paper_loss(output, micro.label, micro.weight, settings, step).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    changed = {name: not torch.equal(p, old) for (name, p), old in zip(kernel.named_parameters(), before, strict=True)}
    assert all(changed.values()), changed
    assert fingerprint(context.foundation) == backbone


def test_the_live_features_do_not_matter(settings: PaperSettings, context: AdapterContext) -> None:
    batch = batch_of(context)
    silent = replace(batch, micro=replace(batch.micro, live=torch.zeros_like(batch.micro.live)))
    one, two = (paper(context, 1e-2, settings=settings) for _ in range(2))
    for _ in range(3):
        one.learn(batch)
        two.learn(silent)
    assert torch.equal(one.score(batch), two.score(batch))
    assert not torch.equal(one.score(batch), batch.micro.frozen_logit)


def test_learning_does_not_depend_on_the_global_random_state(settings: PaperSettings, context: AdapterContext) -> None:
    scores = []
    for seed in (1, 2):
        adapter = paper(context, 1e-2, settings=settings)
        torch.manual_seed(seed)
        for n in range(3):
            adapter.learn(batch_of(context, seed=n))
        scores.append(adapter.score(batch_of(context)))
    assert torch.equal(*scores)


def test_a_mixed_batch_scores_as_each_domain_separately(settings: PaperSettings, context: AdapterContext) -> None:
    kernel, micro = moved(settings, context), batch_of(context, n=40).micro
    with torch.no_grad():
        mixed = kernel(context.backbone, micro.x, micro.domain).logit
        alone = [kernel(context.backbone, micro.x[i : i + 1], micro.domain[i : i + 1]).logit for i in range(40)]
    torch.testing.assert_close(mixed, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_an_example_with_zero_weight_changes_nothing(context: AdapterContext) -> None:
    batch = batch_of(context)
    adapter = paper(context, 1e-2, settings=PaperSettings())
    adapter.learn(replace(batch, micro=replace(batch.micro, weight=torch.zeros(len(batch)))))
    assert torch.equal(adapter.score(batch), batch.micro.frozen_logit)


def test_a_bank_learns_a_domain_without_touching_the_others_encoder_and_decoder(context: AdapterContext) -> None:
    settings = PaperSettings("D", bank_facets=("region",), latent=4, hidden=8)
    kernel, micro = kernel_of(settings, context), one_domain(batch_of(context), (0, 1, 0)).micro
    (core,) = kernel.cores
    assert isinstance(core, EncoderDecoder)
    output = kernel(context.backbone, micro.x, micro.domain)
    paper_loss(output, micro.label, micro.weight, settings, 1).backward()  # type: ignore[no-untyped-call]
    gradient = core.decode_out.weight.grad
    assert gradient is not None
    assert [bool(part.any()) for part in gradient] == [region == 1 for region in range(SIZES[1])]


def test_the_changes_of_a_scene_a_region_and_a_period_add_up(context: AdapterContext) -> None:
    settings = PaperSettings("D", bank_facets=("scene", "region", "period"), latent=4, hidden=8)
    kernel, micro = moved(settings, context), batch_of(context, n=1).micro
    assert [core.bank for core in kernel.cores] == list(SIZES)
    deltas: list[torch.Tensor] = []
    for core in kernel.cores:
        core.register_forward_hook(lambda module, inputs, output: deltas.append(output.delta))
    logit = kernel(context.backbone, micro.x, micro.domain).logit
    expected = context.backbone.predict(micro.x + sum(deltas), micro.domain)[:, 0]
    assert len(deltas) == 3
    torch.testing.assert_close(logit, expected)


@torch.no_grad()
@pytest.mark.parametrize("reading", ["A", "B"])
def test_the_weight_of_compression_grows_over_its_warm_up(reading: Any, context: AdapterContext) -> None:
    micro = batch_of(context).micro
    settings = PaperSettings(reading, beta=2.0, l1=2.0, l2=0.0, warmup_steps=10)
    output = moved(settings, context)(context.backbone, micro.x, micro.domain)
    nats = float(output.compression.mean())
    assert nats > 0
    plain = PaperSettings("D")
    task = float(paper_loss(output, micro.label, micro.weight, plain, 1))
    for step, share in ((1, 0.1), (5, 0.5), (10, 1.0), (50, 1.0)):
        total = float(paper_loss(output, micro.label, micro.weight, settings, step))
        assert total == pytest.approx(task + 2.0 * share * nats, rel=1e-4)


@torch.no_grad()
def test_matching_is_weighted_by_its_own_weight(context: AdapterContext) -> None:
    micro = batch_of(context).micro
    settings = PaperSettings("B", l1=0.0, l2=3.0, warmup_steps=1)
    output = moved(settings, context)(context.backbone, micro.x, micro.domain)
    task = float(paper_loss(output, micro.label, micro.weight, PaperSettings("D"), 1))
    total = float(paper_loss(output, micro.label, micro.weight, settings, 1))
    assert total == pytest.approx(task + 3.0 * float(output.matching.mean()), rel=1e-4)


def test_a_deterministic_kernel_reports_no_nats(context: AdapterContext) -> None:
    micro, settings = batch_of(context).micro, PaperSettings("D")
    output = moved(settings, context)(context.backbone, micro.x, micro.domain)
    assert not output.compression.any() and not output.matching.any()


def test_the_divergence_is_that_of_the_library() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance, prior_mean, prior_log_variance = torch.randn(4, 6, 5, generator=generator)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()),
        torch.distributions.Normal(prior_mean, (0.5 * prior_log_variance).exp()),
    ).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance, prior_mean, prior_log_variance), expected)


def test_samples_have_the_mean_and_the_variance_they_are_drawn_with() -> None:
    drawn = sample(torch.full((50_000,), 2.0), torch.full((50_000,), -1.0), torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(drawn.var().log()) == pytest.approx(-1.0, abs=0.03)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_grouping_rows_by_domain_and_back_changes_nothing(index: list[int]) -> None:
    active = DomainActivation(torch.tensor(index), 6)
    values = torch.randn(len(index), 3)
    assert torch.equal(active.gather(active.scatter(values)), values)
    bank = torch.arange(6.0)[:, None, None].expand(6, 1, 3)
    ones = active.scatter(torch.ones(len(index), 3))
    answered = active.gather(active.select(bank) * ones)
    assert answered[:, 0].tolist() == index


def test_equal_budgets_rehearse_small_domains_as_often_as_large_ones(context: AdapterContext) -> None:
    recent = DomainBatches(8, 16, lambda domain: domain[:, 1])
    large, small = one_domain(batch_of(context, 60), (0, 1, 0)), one_domain(batch_of(context, 4), (0, 2, 0))
    for batch in (large, small, large):
        recent.add(batch)
    generator = torch.Generator().manual_seed(0)
    drawn = [recent.draw(generator) for _ in range(200)]
    regions = [set(batch.micro.domain[:, 1].tolist()) for batch in drawn]
    assert all(len(values) == 1 for values in regions)
    assert 0.35 < sum(values == {2} for values in regions) / len(regions) < 0.65
    assert {len(batch) for batch in drawn} == {4, 16}


def test_a_batch_of_one_domain_is_filled_from_several_batches_and_drops_the_oldest(context: AdapterContext) -> None:
    recent = DomainBatches(3, 10, lambda domain: domain[:, 1])
    generator = torch.Generator().manual_seed(0)
    batches = [one_domain(batch_of(context, 4, seed=seed), (0, 1, 0)) for seed in range(5)]
    for batch in batches:
        recent.add(batch)
    drawn = recent.draw(generator)
    assert len(drawn) == len(drawn.user) == len(drawn.item) == 10
    kept = torch.cat([batch.micro.x for batch in batches[2:]])
    assert all(bool((kept == row).all(1).any()) for row in drawn.micro.x)
