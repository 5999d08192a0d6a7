"""The small parts against a reference: alignment, losses, measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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
from model.losses import ctcvr, entire_space_loss

FLOATS = st.floats(-5, 5, width=32)


def domains(k: int, n: int) -> torch.Tensor:
    return torch.stack([torch.zeros(n), torch.arange(n) % k, torch.zeros(n)], dim=1).long()


@pytest.mark.parametrize("term", [jensen_shannon, maximum_mean_discrepancy])
def test_alignment_is_zero_for_equal_domains_and_grows_with_their_distance(term: object) -> None:
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
def test_alignment_can_be_minimised(kind: str) -> None:
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


def test_expected_auc_is_undefined_with_hardly_any_expected_pair() -> None:
    assert math.isnan(expected_auc([0.0, 5e-324], [0.0, 0.0]))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=12))
def test_expected_auc_of_certain_labels_is_their_auc(rows: list[tuple[bool, int]]) -> None:
    labels, scores = [float(y) for y, _ in rows], [float(s) for _, s in rows]
    assert expected_auc(labels, scores) == pytest.approx(auc(labels, scores), nan_ok=True)


def test_grouped_auc_compares_within_groups_only() -> None:
    labels, scores = [0, 1, 0, 1, 1], [0.1, 0.2, 0.8, 0.9, 0.5]
    assert auc(labels, scores) < 1.0
    assert grouped_auc(labels, scores, ["a", "a", "b", "b", "c"]) == 1.0


def test_measures_of_a_perfect_and_of_a_constant_model() -> None:
    labels = [0, 1, 1, 0]
    assert log_loss(labels, labels) == pytest.approx(0.0, abs=1e-6)
    assert normalised_entropy(labels, [0.5] * 4) == pytest.approx(1.0)
    assert calibration(labels, [0.25] * 4) == pytest.approx(0.5)


@pytest.mark.parametrize("measure", [auc, log_loss, calibration, normalised_entropy])
def test_undefined_measures_are_nan(measure: object) -> None:
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
