"""Snapshots of the learner: restored they go on bit for bit, others are refused by name."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import LearnerConfig
from model.container import ContainerError, pack, unpack
from model.kernel.learner import Learner
from tests.model.conftest import kernel_start
from tests.model.kernel.kernel_parts import PRINT, START, WIDTH, batch, make, taught


@settings(max_examples=12)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=12), st.data())
def test_a_restored_learner_continues_bit_for_bit_from_any_batch(sizes: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(sizes)))
    learner, other = make(), make()
    for seed, n in enumerate(sizes[:cut]):
        learner.learn(batch(n, seed=seed))
    other.learn(batch(seed=77))  # what it has learned of its own is gone after a restore
    other.restore(learner.snapshot())
    asked = batch(seed=88)
    assert torch.equal(other.score(asked), learner.score(asked))
    for seed, n in enumerate(sizes[cut:], start=cut):
        first, second = (each.learn(batch(n, seed=seed)) for each in (learner, other))
        assert torch.equal(first.candidate_logit, second.candidate_logit)
        assert first.arms == second.arms
    assert learner.snapshot() == other.snapshot()
    assert learner.nats() == other.nats()
    assert (learner.batches, learner.examples) == (len(sizes), sum(sizes)) == (other.batches, other.examples)


def refused(learner: Learner, data: bytes) -> str:
    """The sentence of the refusal; `check` and `restore` say the same, and nothing changes."""
    before, sentences = learner.snapshot(), []
    for read in (learner.check, learner.restore):
        with pytest.raises(ContainerError) as caught:
            read(data)
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


def test_a_snapshot_of_another_width_is_refused_by_the_setting_that_decides_it() -> None:
    assert "backbone.width is 8 in the snapshot, 16 here" in refused(make(), make(start=kernel_start(8)).snapshot())


def test_a_snapshot_of_other_domains_is_refused_by_the_facet() -> None:
    other = Learner(START, LearnerConfig(), fingerprint=PRINT, domain_sizes=(2, 5, 3))
    assert "domains.region.count is 5 in the snapshot, 4 here" in refused(make(), other.snapshot())


def test_a_snapshot_of_a_gradient_kernel_is_refused_with_an_explanation() -> None:
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
def test_invalid_half_lives_are_refused_by_name(lives: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="half_lives"):
        LearnerConfig(half_lives=lives)
