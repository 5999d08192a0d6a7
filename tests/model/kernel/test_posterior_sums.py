"""Posteriors put together: late clicks, nested models, parts that add up, restarts."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.kernel.posterior import Posterior
from tests.model.kernel.posterior_parts import (
    FOREVER,
    INNER,
    MEAN,
    PRIOR,
    TRUTH,
    WIDTH,
    examples,
    learned,
    make_posterior,
    taught,
)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([50.0, 400.0, FOREVER]), st.integers(0, 1_000))
def test_a_corrected_posterior_equals_that_of_clicks_on_time(data: st.DataObject, half_life: float, seed: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=8))
    true, late = make_posterior(half_life, (WIDTH, INNER)), make_posterior(half_life, (WIDTH, INNER))
    waiting: list[tuple[Tensor, Tensor, int]] = []
    total = 0
    for number, n in enumerate(sizes):
        features, label, weight = examples(n, seed + number)
        weight = weight * (1 + number)
        true = true.after(taught((features, label, weight)))
        hidden = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))) & (label > 0)
        late = late.after(taught((features, label * ~hidden, weight)))
        total += n
        waiting += [(features[row][None], weight[row][None], total) for row in hidden.nonzero()[:, 0].tolist()]
        if data.draw(st.booleans()):
            late = make_posterior(half_life, (WIDTH, INNER)).restored(late.state())
        waiting = data.draw(st.permutations(waiting))
        for _ in range(data.draw(st.integers(0, len(waiting)))):
            late = corrected(late, waiting.pop(), total)
    for click in waiting:
        late = corrected(late, click, total)
    assert torch.equal(late.precision.tril(), true.precision.tril())
    for model in range(2):
        torch.testing.assert_close(late.vectors[model], true.vectors[model], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(late.means[model], true.means[model], rtol=1e-4, atol=1e-4)


def corrected(posterior: Posterior, click: tuple[Tensor, Tensor, int], total: int) -> Posterior:
    features, weight, learned_at = click
    return posterior.corrected(features, weight, torch.tensor([float(total - learned_at)]).double())


def test_a_nested_smaller_model_equals_a_separate_one() -> None:
    nested, alone = make_posterior(500.0, (WIDTH, INNER)), Posterior(MEAN[:INNER], PRIOR[:INNER], 500.0, [INNER])
    for seed in range(20):
        features, label, weight = examples(64, seed)
        served = features @ TRUTH
        nested = nested.after(taught((features, label, weight), served))
        alone = alone.after(taught((features[:, :INNER], label, weight), served))
    torch.testing.assert_close(nested.means[1], alone.means[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nested.precision[:INNER, :INNER], alone.precision)
    assert not torch.allclose(nested.means[1], nested.means[0][:INNER], atol=0.02)


@settings(max_examples=20)
@given(st.integers(1, 199), st.integers(0, 1_000))
def test_two_halves_learned_separately_sum_to_the_whole(cut: int, seed: int) -> None:
    features, label, weight = examples(200, seed)
    halves = [(features[half], label[half], weight[half]) for half in (slice(0, cut), slice(cut, 200))]
    apart, whole = (
        [make_posterior().after(taught(half)) for half in halves],
        make_posterior().after(taught((features, label, weight))),
    )
    joined = make_posterior().joined([(apart[0], cut), (apart[1], 200 - cut)])
    torch.testing.assert_close(joined.precision, whole.precision, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(joined.means[0], whole.means[0], rtol=1e-3, atol=1e-3)


def test_parts_learned_separately_add_up_and_the_start_counts_once() -> None:
    start = make_posterior(100.0).after(taught(examples(200)))
    halves = [start.after(taught(examples(60, seed))) for seed in (1, 2)]
    left = 2.0 ** (-120 / 100.0)
    learned = [half.precision - 2.0 ** (-0.6) * start.precision for half in halves]
    learned = [part - (1 - 2.0 ** (-0.6)) * torch.diag(PRIOR) for part in learned]
    expected = learned[0] + learned[1] + left * start.precision + (1 - left) * torch.diag(PRIOR)
    joined = start.joined([(half, 60) for half in halves])
    torch.testing.assert_close(joined.precision, expected, rtol=1e-4, atol=1e-3)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=10), st.sampled_from([200.0, FOREVER]))
def test_a_restored_posterior_continues_bit_for_bit_from_every_batch(sizes: list[int], half_life: float) -> None:
    posterior = make_posterior(half_life, (WIDTH, INNER))
    for seed, n in enumerate(sizes):
        other = make_posterior(half_life, (WIDTH, INNER)).restored(posterior.state())
        posterior, other = (learner.after(taught(examples(n, seed))) for learner in (posterior, other))
        assert all(torch.equal(tensor, other.state()[name]) for name, tensor in posterior.state().items())
        assert all(torch.equal(*pair) for pair in zip(posterior.means, other.means, strict=True))
        assert posterior.nats() == other.nats()


def test_a_posterior_starts_from_earlier_learning_weighted_by_its_half_life() -> None:
    before = learned(make_posterior(FOREVER, (WIDTH, INNER)), range(20))
    long, short = (
        make_posterior(life).started_from(before.means[:1], before.precision, 2_000) for life in (1e9, 100.0)
    )
    for one in (long, short):
        torch.testing.assert_close(one.means[0], before.means[0])
    torch.testing.assert_close(long.precision, before.precision)
    kept = 100.0 / math.log(2) / 2_000
    expected = kept * before.precision + (1 - kept) * torch.diag(PRIOR)
    torch.testing.assert_close(short.precision, expected)
    torch.testing.assert_close(short.factor @ short.factor.T, expected, rtol=1e-4, atol=1e-4)


def test_a_posterior_is_immutable() -> None:
    before = learned(make_posterior(), [0])
    kept = before.precision.clone(), before.means[0].clone(), before.vectors[0].clone()
    before.after(taught(examples(100, 1)))
    before.corrected(examples(3)[0], torch.ones(3), torch.zeros(3).double())
    before.started_from(before.means, before.precision, 5).after(taught(examples(9)))
    assert all(map(torch.equal, kept, (before.precision, before.means[0], before.vectors[0])))
