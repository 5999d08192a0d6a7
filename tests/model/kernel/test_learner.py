"""The learner: test before train, bad input by name, snapshots that go on bit for bit, never worse for long."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits as log_loss

from model.config import LearnerConfig
from model.container import ContainerError, pack, unpack
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner
from tests.model.conftest import DRIFT, LIVE, SIZES, VALUES, kernel_start
from tests.model.kernel.kernel_parts import PRINT, START, WIDTH, batch, make

FIELDS = ("x", "live", "label", "conversion", "frozen_logit", "live_logit", "weight", "time")


def taught(batches: int = 5, **changes: Any) -> Learner:
    learner = make(**changes)
    for seed in range(batches):
        learner.learn(batch(seed=seed))
    return learner


# --- test, then train ---


def test_a_new_learner_serves_the_frozen_model_bit_for_bit() -> None:
    one = batch()
    assert torch.equal(make().score(one), one.frozen_logit)
    assert make().distance() == 0.0


def test_the_report_holds_the_logit_from_before_learning() -> None:
    learner, one = taught(), batch(seed=9)
    before = learner.score(one)
    report = learner.learn(one)
    torch.testing.assert_close(report.candidate_logit, before, rtol=0, atol=1e-6)
    assert not torch.equal(learner.score(one), before)
    assert report.examples == len(one)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.lists(st.booleans(), min_size=32, max_size=32))
def test_the_reported_logit_does_not_know_the_labels(seed: int, flips: list[bool]) -> None:
    one = batch(seed=seed)
    flipped = replace(one, label=(one.label - torch.tensor(flips).float()).abs())
    assert torch.equal(taught(2).learn(one).candidate_logit, taught(2).learn(flipped).candidate_logit)


def test_it_learns_what_the_frozen_model_does_not_know() -> None:
    learner, asked = make(), batch(500, seed=99)
    frozen = log_loss(asked.frozen_logit, asked.label)
    for seed in range(30):
        learner.learn(batch(128, seed=seed))
    assert log_loss(learner.score(asked), asked.label) < 0.5 * frozen


def test_what_is_served_is_the_mixture_of_the_arms() -> None:
    learner, one = taught(12), batch(seed=20)
    arms = learner._arm_logits(START.features.features(one.inputs), one.frozen_logit)
    mixed = learner._trust.weights.float() @ arms
    torch.testing.assert_close(learner.score(one), mixed, rtol=1e-4, atol=1e-4)
    assert sum(learner.arms.values()) == pytest.approx(1.0)


def test_the_report_tells_the_arms_and_the_evidence() -> None:
    report = taught().learn(batch(seed=7))
    assert sum(report.arms.values()) == pytest.approx(1.0)
    assert 0 < report.matching < 1


def test_nats_grow_from_nothing_and_an_example_that_was_learned_teaches_less() -> None:
    learner, one = make(), batch()
    assert learner.nats() == pytest.approx(0.0, abs=1e-3)
    first = learner.gain(one)
    for seed in range(40):
        learner.learn(batch(128, seed=seed))
    assert learner.nats() > 1
    assert first.shape == (len(one),)
    assert bool((first > 0).all())
    assert float(learner.gain(one).mean()) < float(first.mean())


def test_a_published_kernel_does_not_change_when_learning_goes_on() -> None:
    learner, one = taught(), batch(seed=50)
    kernel = learner.candidate
    before = kernel.logit(one.inputs)
    for seed in range(10, 15):
        learner.learn(batch(seed=seed))
    assert torch.equal(kernel.logit(one.inputs), before)


# --- never worse for long ---


def test_where_labels_turn_false_it_soon_serves_no_worse_than_the_frozen_model_tells() -> None:
    learner = make()
    for seed in range(40):
        learner.learn(batch(128, seed=seed))
    # What was learned is the opposite of what is now true, and the frozen model is right.
    worse = []
    for seed in range(100, 120):
        true = batch(128, seed=seed)
        told = replace(true, label=1 - true.label, frozen_logit=4 - 8 * true.label)
        told = replace(told, live_logit=learner.score(told))
        worse.append(float(log_loss(learner.learn(told).candidate_logit, told.label)))
    assert worse[0] > 0.3
    assert max(worse[5:]) < 0.1


def test_labels_that_follow_nothing_cost_little_against_the_frozen_model() -> None:
    learner, lost = make(), []
    for seed in range(80):
        one = batch(128, seed=seed)
        label = (
            torch.rand(128, generator=torch.Generator().manual_seed(seed)) < torch.sigmoid(one.frozen_logit)
        ).float()
        report = learner.learn(replace(one, label=label))
        lost.append(float(log_loss(report.candidate_logit, label) - log_loss(one.frozen_logit, label)))
    assert sum(lost) / len(lost) < 0.01
    assert sum(lost[40:]) / 40 < 0.005


def test_a_learner_that_was_fooled_comes_back() -> None:
    learner = make()
    for seed in range(20):
        one = batch(128, seed=seed)
        learner.learn(replace(one, label=1 - one.label))
    for seed in range(20, 60):
        learner.learn(batch(128, seed=seed))
    asked = batch(500, seed=99)
    assert log_loss(learner.score(asked), asked.label) < log_loss(asked.frozen_logit, asked.label)


# --- late clicks ---


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_after_its_corrections_the_posteriors_are_those_of_clicks_on_time(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=6))
    true, late = make(half_lives=(60.0, 300.0)), make(half_lives=(60.0, 300.0))
    waiting: list[tuple[MicroBatch, int]] = []
    for seed, n in enumerate(sizes):
        one = batch(n, seed=seed)
        hidden = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))) & (one.label > 0)
        true.learn(one)
        late.learn(replace(one, label=one.label * ~hidden))
        waiting += [(one.select(row[None]), late.examples) for row in hidden.nonzero()[:, 0]]
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
        learner.correct(MicroBatch.concat([one for one, _ in rows]), learned_at)


def test_a_correction_is_served_at_once_and_leaves_trust_as_it_was() -> None:
    learner, one = taught(), batch(seed=9)
    learner.learn(replace(one, label=0 * one.label))
    before, arms = learner.score(one), learner.arms
    clicked = one.select(one.label > 0)
    learner.correct(clicked, np.full(len(clicked), learner.examples))
    assert float((learner.score(one) - before)[one.label > 0].mean()) > 0
    assert learner.arms == arms


def test_a_correction_without_clicks_or_of_what_was_not_learned_is_refused_and_changes_nothing() -> None:
    learner, one = taught(), batch(seed=9)
    clicked = replace(one, label=torch.ones(len(one)))
    before = learner.snapshot()
    with pytest.raises(ValueError, match="correction: label has a value that is not 1"):
        learner.correct(one, np.full(len(one), 1))
    for learned_at in (np.full(len(one), learner.examples + 1), np.zeros(len(one), dtype=np.int64), np.array([1])):
        with pytest.raises(ValueError, match="correction: learned_at must be 32 numbers of 1 to 160 examples"):
            learner.correct(clicked, learned_at)
    assert learner.snapshot() == before


def test_numbers_that_leave_single_precision_change_nothing() -> None:
    learner, one = taught(), batch(seed=9)
    before = learner.snapshot()
    with pytest.raises(FloatingPointError, match="precision is not finite"):
        learner.learn(replace(one, weight=torch.full((len(one),), 3e38)))
    assert learner.snapshot() == before


# --- bad input ---


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
def test_a_label_or_a_weight_that_is_none_is_refused_by_name(field: str, value: float) -> None:
    one = batch()
    getattr(one, field)[3] = value
    with pytest.raises(ValueError, match=f"micro-batch: {field} has a value"):
        make().learn(one)


@pytest.mark.parametrize("index", [-1, SIZES[1]])
def test_a_domain_nobody_declared_is_refused(index: int) -> None:
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
def test_odd_batches_are_learned_and_leave_a_kernel_that_learns_on(what: str) -> None:
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
def test_all_clicks_or_none_lead_to_scores_that_say_so(label: float) -> None:
    learner = make()
    for seed in range(60):
        learner.learn(replace(batch(64, seed=seed), label=torch.full((64,), label)))
    assert float((torch.sigmoid(learner.score(batch(seed=99))) - label).abs().mean()) < 0.1


def test_an_example_without_weight_teaches_nothing() -> None:
    learner, one = make(), batch()
    learner.learn(replace(one, weight=torch.zeros(len(one))))
    assert learner.distance() == pytest.approx(0.0, abs=1e-5)


def test_the_order_of_examples_in_a_batch_hardly_matters() -> None:
    one, other, turned = make(), make(), torch.arange(31, -1, -1)
    for seed in range(8):
        one.learn(batch(seed=seed))
        other.learn(batch(seed=seed).select(turned))
    torch.testing.assert_close(one.candidate.weights, other.candidate.weights, rtol=1e-3, atol=1e-4)


# --- snapshots ---


@settings(max_examples=12)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=12), st.data())
def test_a_restored_learner_goes_on_bit_for_bit_from_any_place(sizes: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(sizes)))
    learner, other = make(), make()
    for seed, n in enumerate(sizes[:cut]):
        learner.learn(batch(n, seed=seed))
    other.learn(batch(seed=77))  # what it has learned of its own is gone after a restore
    other.restore(learner.snapshot())
    asked = batch(seed=88)
    assert torch.equal(other.score(asked), learner.score(asked))
    for seed, n in enumerate(sizes[cut:], start=cut):
        one, two = (each.learn(batch(n, seed=seed)) for each in (learner, other))
        assert torch.equal(one.candidate_logit, two.candidate_logit)
        assert one.arms == two.arms
    assert learner.snapshot() == other.snapshot()
    assert learner.nats() == other.nats()
    assert (learner.batches, learner.examples) == (len(sizes), sum(sizes)) == (other.batches, other.examples)


def refused(learner: Learner, data: bytes) -> str:
    """The sentence of the refusal; `check` and `restore` say the same, and nothing changes."""
    before, sentences = learner.snapshot(), []
    for door in (learner.check, learner.restore):
        with pytest.raises(ContainerError) as caught:
            door(data)
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert learner.snapshot() == before
    return sentences[0]


def test_a_snapshot_of_another_backbone_is_refused() -> None:
    sentence = refused(make(), make(fingerprint="e" * 64).snapshot())
    assert "backbone_fingerprint" in sentence
    assert "topics of its own" in sentence


def test_a_snapshot_of_another_start_is_refused_by_name() -> None:
    sentence = refused(make(), make(start=kernel_start(WIDTH, seed=5)).snapshot())
    assert "kernel.start is" in sentence and "topics of its own" in sentence


def test_a_snapshot_of_another_width_is_refused_by_what_decides_it() -> None:
    assert "backbone.width is 8 in the snapshot, 16 here" in refused(make(), make(start=kernel_start(8)).snapshot())


def test_a_snapshot_of_other_domains_is_refused_by_the_facet() -> None:
    other = Learner(START, LearnerConfig(), fingerprint=PRINT, domain_sizes=(2, 5, 3))
    assert "domains.region.count is 5 in the snapshot, 4 here" in refused(make(), other.snapshot())


def test_a_snapshot_of_a_gradient_kernel_is_refused_with_a_sentence() -> None:
    _, metadata = unpack(make().snapshot())
    old = pack({"path": torch.zeros(4)}, {**metadata, "kind": "learner", "kernel": {"latent": 16}})
    sentence = refused(make(), old)
    assert "kind is 'learner', here 'natural-parameter learner'" in sentence
    assert "go back to the version" in sentence


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depends_on": None}, "another version of Driftline wrote it; give this one topics of its own"),
        ({"depends_on": 5}, "another version of Driftline wrote it"),
        ({"batches": None}, "batches"),
        ({"batches": -1}, "batches"),
        ({"examples": "many"}, "examples"),
        ({"kind": None}, "kind is None"),
    ],
)
def test_a_snapshot_whose_metadata_is_wrong_is_refused(changes: dict[str, object], message: str) -> None:
    tensors, metadata = unpack(make().snapshot())
    changed = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    assert message in refused(taught(), pack(tensors, changed))


def test_a_snapshot_with_tensors_of_another_kind_or_none_is_refused() -> None:
    tensors, metadata = unpack(make().snapshot())
    for name in tensors:
        missing = {key: tensor for key, tensor in tensors.items() if key != name}
        assert name in refused(taught(), pack(missing, metadata))
        assert name in refused(taught(), pack({**tensors, name: tensors[name][..., None]}, metadata))
    refused(taught(), b"garbage")


def test_a_snapshot_that_holds_nan_is_refused() -> None:
    tensors, metadata = unpack(make().snapshot())
    tensors["short.vector.0"][2] = float("nan")
    assert re.search(r"short\.vector\.0.*non-finite", refused(taught(), pack(tensors, metadata)))


@settings(max_examples=30)
@given(st.data())
def test_a_snapshot_with_a_flipped_byte_is_refused_or_read_and_never_hangs(data: st.DataObject) -> None:
    learner, packed = taught(2), bytearray(taught(3).snapshot())
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        learner.restore(bytes(packed))
        learner.learn(batch(seed=4))
    except (ContainerError, FloatingPointError):
        return
    assert learner.candidate.weights.shape == (START.features.width,)


def test_half_lives_belong_to_the_process_and_not_to_the_snapshot() -> None:
    learner = taught(half_lives=(500.0, 5_000.0))
    learner.restore(taught().snapshot())
    assert learner.snapshot() == taught().snapshot()


@pytest.mark.parametrize("lives", [(0.0, 1.0), (-3.0, 10.0), (10.0, 3.0), (float("nan"), 1.0)])
def test_half_lives_that_are_none_are_refused_by_name(lives: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="half_lives"):
        LearnerConfig(half_lives=lives)


def test_what_learning_changes_is_counted() -> None:
    learner = make()
    assert learner.parameters == START.features.width + 4
    tensors, _ = unpack(learner.snapshot())
    assert learner.state_bytes == sum(tensor.nbytes for tensor in tensors.values())


def test_t_comes_before_the_counters() -> None:
    features = START.features
    assert (features.drift, features.counters) == (DRIFT, LIVE - DRIFT)


# --- groups that learned apart ---


def test_a_learner_begins_with_the_copy_of_one_or_the_sum_of_several() -> None:
    one, other = taught(6), taught(3)
    copied, summed = make(), make()
    copied.restore_sum([one.snapshot()])
    assert copied.snapshot() == one.snapshot()
    summed.restore_sum([one.snapshot(), other.snapshot()])
    assert summed.examples == one.examples + other.examples
    assert summed.nats() > max(one.nats(), other.nats())
    back = make()
    back.restore(summed.snapshot())
    assert back.snapshot() == summed.snapshot()
    assert sum(summed.arms.values()) == pytest.approx(1.0)


def test_the_sum_of_groups_of_which_some_have_learned_nothing_is_that_of_the_others() -> None:
    some, none = make(), make()
    some.restore_sum([make().snapshot(), taught(6).snapshot(), make().snapshot()])
    assert some.snapshot() == taught(6).snapshot()
    none.restore_sum([make().snapshot(), make().snapshot()])
    assert none.snapshot() == make().snapshot()
    assert torch.equal(none.candidate.weights, make().candidate.weights)
