"""What holds for the adapters that need no backbone: they know the log, count right, and are bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.adapters import ADAPTERS, AdapterContext, refit
from lab.adapters.counters import STRENGTH, ClickCounters, Counter, in_batches, log_odds
from lab.adapters.factors import RidgeVectors
from lab.adapters.neighbours import RECENT, CoClicks
from model.backbone.examples import Examples
from model.evaluation import auc
from tests.lab.adapters.batches import batch_of

RIVALS = sorted(name for name, spec in ADAPTERS.items() if spec.family == "rival")


def with_labels(history: Examples, label: np.ndarray) -> Examples:
    return replace(history, label=label.astype(np.float32), conversion=None)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_has_learned_the_log_before_the_first_live_label(name: str, context: AdapterContext) -> None:
    batch = batch_of(context)
    odd = with_labels(context.history, context.history.item % 2 == 1)
    adapter = ADAPTERS[name].build(replace(context, history=odd), ADAPTERS[name].rate)
    assert auc(batch.item.numpy() % 2 == 1, adapter.score(batch).numpy()) > 0.9


@pytest.mark.parametrize("name", RIVALS)
def test_the_state_of_a_rival_is_bounded(name: str, context: AdapterContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit, "MOST_ROWS", 500)
    adapter = ADAPTERS[name].build(context, ADAPTERS[name].rate)
    batch = batch_of(context)
    for _ in range(4):
        adapter.learn(batch)
    before = adapter.state_bytes
    for _ in range(20):
        adapter.learn(batch)
    assert adapter.state_bytes == before


@pytest.mark.parametrize("name", ["counters-lr", "knn"])
def test_rates_of_the_log_exclude_the_label_of_their_own_example(name: str, context: AdapterContext) -> None:
    """On labels that are pure chance, rates that know their own label would be trusted far too much."""
    rng = np.random.default_rng(0)
    label = rng.random(len(context.history)) < 0.5
    chance = replace(context, history=with_labels(context.history, label))
    logit = ADAPTERS[name].build(chance, ADAPTERS[name].rate).score(batch_of(context))
    assert float(logit.std()) < 0.5


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60), st.floats(0.05, 0.95))
def test_a_counters_rate_is_the_mean_of_labels_and_prior_examples(rows: list[tuple[int, bool]], parent: float) -> None:
    counter = Counter(4)
    key, label = np.array([k for k, _ in rows], dtype=np.int64), np.array([y for _, y in rows], dtype=np.float32)
    for begin in range(0, len(rows), 7):
        counter.add(key[begin : begin + 7], label[begin : begin + 7])
    for k in range(4):
        own = label[key == k]
        expected = (own.sum() + STRENGTH * parent) / (len(own) + STRENGTH)
        assert counter.rate(np.array([k]), parent, STRENGTH)[0] == pytest.approx(expected)


def test_counters_count_the_log_and_the_stream_alike(context: AdapterContext) -> None:
    counters, batch = ClickCounters(context), batch_of(context)
    counters.add(batch)
    assert counters.all.shown[0] == 200
    assert counters.all.clicked[0] == float(batch.micro.label.sum())
    for counter in counters.counters.values():
        assert (counter.shown.sum(), counter.clicked.sum()) == (200, counters.all.clicked[0])
    assert counters.columns(batch).shape == (200, counters.width)
    as_log = Examples(
        batch.user.numpy(), batch.item.numpy(), batch.micro.domain.numpy(), batch.micro.label.numpy(), np.arange(200.0)
    )
    again = ClickCounters(context)
    again.add(as_log)
    assert torch.equal(again.columns(as_log), counters.columns(batch))


def test_a_key_without_examples_has_no_deviation(context: AdapterContext) -> None:
    counters = ClickCounters(context)
    counters.add(context.history)
    batch = batch_of(context)
    unknown = counters.deviations(batch)[batch.user.numpy() == 30, 1]
    assert unknown == pytest.approx(0.0)
    assert float(log_odds(np.array(0.5))) == 0.0


def test_the_log_is_read_exactly_once_and_in_order(context: AdapterContext) -> None:
    parts = list(in_batches(context.history))
    assert np.array_equal(np.concatenate([part.time for part in parts]), context.history.time)


def test_vectors_are_the_ridge_solution_over_all_examples_so_far() -> None:
    rng = np.random.default_rng(0)
    key, other, residual = rng.integers(3, size=50), rng.normal(size=(50, 4)), rng.normal(size=50)
    vectors = RidgeVectors(5, 4, 2.0, np.zeros((5, 4)))
    for begin in range(0, 50, 20):
        part = slice(begin, begin + 20)
        vectors.add(key[part], other[part], residual[part])
    vectors.solve(np.arange(3))
    for k in range(3):
        rows = other[key == k]
        expected = np.linalg.solve(rows.T @ rows + 2.0 * np.eye(4), rows.T @ residual[key == k])
        assert vectors.vectors[k] == pytest.approx(expected)
    assert not vectors.vectors[3:].any()


def test_neighbours_score_items_clicked_together_by_recent_examples_only() -> None:
    clicks = CoClicks()
    clicks.add(np.array([0, 0, 1, 1, 2]), np.array([5, 6, 5, 6, 5]), np.array([1, 1, 1, 1, 1], dtype=np.float32))
    six, seven = clicks.score(np.array([2, 2]), np.array([6, 7]))
    assert six == pytest.approx(2 / (6**0.5 + 10))
    assert seven == 0.0
    clicks.add(np.full(RECENT, 2), np.arange(100, 100 + RECENT), np.ones(RECENT, dtype=np.float32))
    assert clicks.score(np.array([2]), np.array([6]))[0] == 0.0


def test_an_item_without_clicks_is_not_a_neighbour() -> None:
    clicks = CoClicks()
    clicks.add(np.array([0, 0]), np.array([5, 6]), np.array([1, 0], dtype=np.float32))
    assert len(clicks) == 0
