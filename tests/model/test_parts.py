"""The small parts against a reference: divergence, bank, optimiser, alignment, measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.backbone.alignment import alignment, jensen_shannon, maximum_mean_discrepancy
from model.evaluation import (
    PrequentialWindow,
    auc,
    calibration,
    expected_auc,
    grouped_auc,
    log_loss,
    normalised_entropy,
    sigmoid,
)
from model.kernel.bank import ActiveDomains, BankLinear
from model.kernel.bottleneck import LOG_VARIANCE_RANGE, clamp_log_variance, gaussian_kl, sample
from model.kernel.optimiser import FlatAdam
from model.losses import ctcvr, entire_space_loss

FLOATS = st.floats(-5, 5, width=32)


@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), min_size=1, max_size=6))
def test_divergence_agrees_with_torch_and_is_not_negative(rows: list[tuple[float, float, float, float]]) -> None:
    m1, v1, m2, v2 = torch.tensor(rows, dtype=torch.float64).T[:, None]
    divergence = gaussian_kl(m1, v1, m2, v2)
    one, two = (torch.distributions.Normal(m, (0.5 * v).exp()) for m, v in ((m1, v1), (m2, v2)))
    torch.testing.assert_close(divergence, torch.distributions.kl_divergence(one, two).sum(-1))
    assert (divergence >= -1e-9).all()


def test_log_variance_cannot_leave_its_range() -> None:
    low, high = LOG_VARIANCE_RANGE
    assert clamp_log_variance(torch.tensor([-1e9, 0.0, 1e9])).tolist() == [low, 0.0, high]


def test_samples_have_the_mean_and_the_deviation_they_were_asked_for() -> None:
    mean, log_variance = torch.full((20_000, 1), 2.0), torch.full((20_000, 1), math.log(0.25))
    drawn = sample(mean, log_variance, torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.02)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_each_row_of_a_mixed_batch_is_mapped_by_its_own_weights(index: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = BankLinear(7, 3, 2, generator)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
        layer.bias.normal_(generator=generator)
    rows, values = torch.tensor(index), torch.randn(len(index), 3, generator=generator)
    active = ActiveDomains(rows, 7)
    gathered = active.gather(layer(active.scatter(values), active))
    expected = torch.einsum("ni,nio->no", values, layer.weight[rows]) + layer.bias[rows, 0]
    torch.testing.assert_close(gathered, expected, rtol=1e-4, atol=1e-5)
    assert active.groups == len(set(index))


def test_flat_adam_steps_like_torch_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    flat = FlatAdam([([ours.weight], 1e-2), ([ours.bias], 1e-3)])
    reference = torch.optim.Adam([{"params": [theirs.weight], "lr": 1e-2}, {"params": [theirs.bias], "lr": 1e-3}])
    for _ in range(20):
        x = torch.randn(8, 5)
        flat.zero_gradient()
        reference.zero_grad()
        ours(x).square().mean().backward()
        theirs(x).square().mean().backward()
        flat.step(clip=1e9)
        reference.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_flat_adam_limits_the_gradient() -> None:
    layer = nn.Linear(2, 1, bias=False)
    flat = FlatAdam([([layer.weight], 1.0)])
    layer(torch.full((1, 2), 100.0)).sum().backward()
    assert flat.step(clip=1.0) == pytest.approx(100 * math.sqrt(2))
    assert float(torch.linalg.vector_norm(flat.gradient)) == pytest.approx(1.0)


def domains(k: int, n: int) -> torch.Tensor:
    return torch.stack([torch.zeros(n), torch.arange(n) % k, torch.zeros(n)], dim=1).long()


@pytest.mark.parametrize("term", [jensen_shannon, maximum_mean_discrepancy])
def test_alignment_is_zero_for_equal_domains_and_grows_as_they_part(term: object) -> None:
    assert callable(term)
    torch.manual_seed(0)
    domain = domains(2, 80)
    base = torch.randn(40, 6).repeat_interleave(2, dim=0)
    shift = (domain[:, 1:2] * torch.tensor([[3.0, 0, 0, 0, 0, 0]])).float()
    values = [float(term(base + amount * shift, domain)) for amount in (0.0, 0.3, 1.0)]
    assert values[0] == pytest.approx(0.0, abs=1e-6)
    assert values[0] < values[1] < values[2]


def test_jensen_shannon_stays_below_ln_two() -> None:
    domain = domains(2, 40)
    x = torch.zeros(40, 4)
    x[domain[:, 1] == 0, 0] = 50.0
    x[domain[:, 1] == 1, 1] = 50.0
    assert float(jensen_shannon(x, domain)) == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("kind", ["none", "js", "mmd"])
def test_one_domain_has_nothing_to_align(kind: str) -> None:
    assert float(alignment(kind, torch.randn(20, 4), domains(1, 20))) == 0.0  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["js", "mmd"])
def test_alignment_can_be_trained_down(kind: str) -> None:
    torch.manual_seed(0)
    domain = domains(3, 90)
    x = (torch.randn(90, 4) + domain[:, 1:2]).requires_grad_()
    before = alignment(kind, x, domain)  # type: ignore[arg-type]
    before.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    after = alignment(kind, (x - 5 * x.grad).detach(), domain)  # type: ignore[arg-type]
    assert float(after) < float(before.detach())


def test_ctcvr_is_the_product_of_the_two_rates() -> None:
    ctr, cvr = torch.tensor([0.3, 2.0]), torch.tensor([-1.0, 0.5])
    torch.testing.assert_close(ctcvr(ctr, cvr), torch.sigmoid(ctr) * torch.sigmoid(cvr))


def test_entire_space_loss_is_finite_at_the_edges() -> None:
    impossible = torch.full((2,), -200.0)
    loss = entire_space_loss((impossible, impossible), torch.ones(2), torch.ones(2), True)
    assert torch.isfinite(loss)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_auc_counts_pairs(rows: list[tuple[bool, int]]) -> None:
    labels, scores = [int(y) for y, _ in rows], [float(s) for _, s in rows]
    pairs = [
        1.0 if p > q else 0.5 if p == q else 0.0
        for p, y in zip(scores, labels, strict=True) if y
        for q, z in zip(scores, labels, strict=True) if not z
    ]  # fmt: skip
    area = auc(labels, scores)
    assert (math.isnan(area) and not pairs) or area == pytest.approx(np.mean(pairs))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=2, max_size=12))
def test_expected_auc_is_concordant_over_all_pairs(rows: list[tuple[float, int]]) -> None:
    concordant = pairs = 0.0
    for i, (p, s) in enumerate(rows):
        for j, (q, t) in enumerate(rows):
            if i != j:
                pairs += p * (1 - q)
                concordant += p * (1 - q) * (1.0 if s > t else 0.5 if s == t else 0.0)
    area = expected_auc([p for p, _ in rows], [float(s) for _, s in rows])
    assert (math.isnan(area) and pairs < 2e-6) or area == pytest.approx(concordant / pairs, abs=1e-6)


def test_expected_auc_is_undefined_where_hardly_a_pair_is_expected() -> None:
    assert math.isnan(expected_auc([0.0, 5e-324], [0.0, 0.0]))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=12))
def test_expected_auc_of_certain_labels_is_their_auc(rows: list[tuple[bool, int]]) -> None:
    labels, scores = [float(y) for y, _ in rows], [float(s) for _, s in rows]
    assert expected_auc(labels, scores) == pytest.approx(auc(labels, scores), nan_ok=True)


def test_grouped_auc_looks_inside_groups_only() -> None:
    labels, scores = [0, 1, 0, 1, 1], [0.1, 0.2, 0.8, 0.9, 0.5]
    assert auc(labels, scores) < 1.0
    assert grouped_auc(labels, scores, ["a", "a", "b", "b", "c"]) == 1.0


def test_measures_of_a_perfect_and_of_a_constant_model() -> None:
    labels = [0, 1, 1, 0]
    assert log_loss(labels, labels) == pytest.approx(0.0, abs=1e-6)
    assert normalised_entropy(labels, [0.5] * 4) == pytest.approx(1.0)
    assert calibration(labels, [0.25] * 4) == pytest.approx(0.5)


@pytest.mark.parametrize("measure", [auc, log_loss, calibration, normalised_entropy])
def test_undefined_measures_are_not_a_number(measure: object) -> None:
    assert callable(measure)
    assert math.isnan(measure([], []))


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid([-1e9, 0, 1e9]).tolist() == [0.0, 0.5, 1.0]


def test_prequential_window_forgets_the_oldest_and_refuses_a_change_of_arms() -> None:
    window = PrequentialWindow(3)
    window.add([0, 0], {"frozen": [0.9, 0.9]})
    window.add([1, 0, 1], {"frozen": [0.8, 0.1, 0.7]})
    assert len(window) == 3
    assert window.summary()["frozen"]["auc"] == 1.0
    with pytest.raises(ValueError, match="arms changed"):
        window.add([1], {"live": [0.5]})
    with pytest.raises(ValueError, match="'frozen'"):
        window.add([1, 0], {"frozen": [0.5]})
