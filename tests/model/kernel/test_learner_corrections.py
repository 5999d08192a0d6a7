"""Late clicks, and groups that learned apart: both are sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner
from tests.model.kernel.kernel_parts import batch, make, taught


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_corrected_posteriors_equal_those_of_clicks_on_time(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=6))
    true, late = make(half_lives=(60.0, 300.0)), make(half_lives=(60.0, 300.0))
    waiting: list[tuple[MicroBatch, int]] = []
    for seed, n in enumerate(sizes):
        examples = batch(n, seed=seed)
        hidden = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))) & (examples.label > 0)
        true.learn(examples)
        late.learn(replace(examples, label=examples.label * ~hidden))
        waiting += [(examples.select(row[None]), late.examples) for row in hidden.nonzero()[:, 0]]
        if data.draw(st.booleans()):
            other = make(half_lives=(60.0, 300.0))
            other.restore(late.snapshot())
            late = other
        waiting = data.draw(st.permutations(waiting))
        now = data.draw(st.integers(0, len(waiting)))
        correct(late, waiting[:now])
        waiting = waiting[now:]
    correct(late, waiting)
    for on_time, put_right in ((true._short, late._short), (true._long, late._long)):
        assert torch.equal(put_right.precision.tril(), on_time.precision.tril())
        for model in range(len(on_time.means)):
            torch.testing.assert_close(put_right.vectors[model], on_time.vectors[model], rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(put_right.means[model], on_time.means[model], rtol=1e-4, atol=1e-4)


def correct(learner: Learner, rows: list[tuple[MicroBatch, int]]) -> None:
    if rows:
        learned_at = np.array([at for _, at in rows])
        learner.correct(MicroBatch.concat([example for example, _ in rows]), learned_at)


def test_a_correction_is_served_at_once_and_leaves_trust_unchanged() -> None:
    learner, examples = taught(), batch(seed=9)
    learner.learn(replace(examples, label=0 * examples.label))
    before, arms = learner.score(examples), learner.arms
    clicked = examples.select(examples.label > 0)
    learner.correct(clicked, np.full(len(clicked), learner.examples))
    assert float((learner.score(examples) - before)[examples.label > 0].mean()) > 0
    assert learner.arms == arms


def test_a_correction_without_clicks_or_of_what_was_not_learned_is_refused_and_changes_nothing() -> None:
    learner, examples = taught(), batch(seed=9)
    clicked = replace(examples, label=torch.ones(len(examples)))
    before = learner.snapshot()
    with pytest.raises(ValueError, match="correction: label has a value that is not 1"):
        learner.correct(examples, np.full(len(examples), 1))
    for learned_at in (
        np.full(len(examples), learner.examples + 1),
        np.zeros(len(examples), dtype=np.int64),
        np.array([1]),
    ):
        with pytest.raises(ValueError, match="correction: learned_at must be 32 numbers of 1 to 160 examples"):
            learner.correct(clicked, learned_at)
    assert learner.snapshot() == before


def test_numbers_beyond_single_precision_are_refused_and_change_nothing() -> None:
    learner, examples = taught(), batch(seed=9)
    before = learner.snapshot()
    with pytest.raises(FloatingPointError, match="precision is not finite"):
        learner.learn(replace(examples, weight=torch.full((len(examples),), 3e38)))
    assert learner.snapshot() == before


def test_a_learner_starts_from_a_copy_of_one_or_the_sum_of_several_learners() -> None:
    first, other = taught(6), taught(3)
    copied, summed = make(), make()
    copied.restore_sum([first.snapshot()])
    assert copied.snapshot() == first.snapshot()
    summed.restore_sum([first.snapshot(), other.snapshot()])
    assert summed.examples == first.examples + other.examples
    assert summed.nats() > max(first.nats(), other.nats())
    back = make()
    back.restore(summed.snapshot())
    assert back.snapshot() == summed.snapshot()
    assert sum(summed.arms.values()) == pytest.approx(1.0)


def test_groups_that_have_learned_nothing_do_not_change_the_sum() -> None:
    some, none = make(), make()
    some.restore_sum([make().snapshot(), taught(6).snapshot(), make().snapshot()])
    assert some.snapshot() == taught(6).snapshot()
    none.restore_sum([make().snapshot(), make().snapshot()])
    assert none.snapshot() == make().snapshot()
    assert torch.equal(none.candidate.weights, make().candidate.weights)
