"""Which kernel is taken, which is refused, and what is remembered of it. No broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from prometheus_client import REGISTRY

from model.backbone.foundation import FoundationBackbone
from model.kernel.kernel import Kernel
from streaming.kernel_log.kernels import KernelRecord
from streaming.kernel_log.keys import kernel_key, learner_key
from streaming.scorer.active_kernels import IDENTITY
from tests.streaming.scorer.scoring_parts import (
    DEPENDS_ON,
    START,
    make_backbone,
    make_kernel,
    make_kernels,
    packed,
    record,
)


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


def _refused(reason: str, group: str = "main") -> float:
    labels = {"group": group, "reason": reason}
    return REGISTRY.get_sample_value("driftline_kernels_refused_total", labels) or 0.0


def test_before_the_first_kernel_the_identity_answers(backbone: FoundationBackbone) -> None:
    assert make_kernels(backbone).current("main") is IDENTITY


def test_a_good_kernel_is_taken_and_remembered_with_its_freshness(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 3, time=998.5))])
    assert kernels.versions() == {"main": 3}
    swap = kernels.swaps[-1]
    assert (swap.version, swap.taken_at, swap.freshness_s, swap.examples, swap.at_start) == (3, 1_000, 1.5, 300, False)


def test_of_several_kernels_only_the_newest_is_built(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, version)) for version in (1, 2, 3)])
    assert [swap.version for swap in kernels.swaps] == [3]


def test_a_reference_held_by_a_request_outlives_the_swap(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1))])
    held = kernels.current("main")
    before = held.kernel.weights.clone() if held.kernel else None
    kernels.take([record(packed(backbone, 2))])
    assert held.version == 1
    assert held.kernel is not None
    assert before is not None and torch.equal(before, held.kernel.weights)


def test_the_learners_private_snapshot_is_passed_over(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([KernelRecord(0, learner_key("main", 0), b"anything")])
    assert kernels.current("main") is IDENTITY
    assert not kernels.refusals


def test_the_key_is_the_one_the_processor_writes(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([KernelRecord(0, kernel_key("main"), packed(backbone, 1))])
    assert kernels.versions() == {"main": 1}


def _not_finite() -> Kernel:
    kernel = make_kernel(1)
    kernel.weights[0] = float("nan")
    return kernel


def _too_short() -> Kernel:
    return Kernel(START, make_kernel(1).weights[:-1])


_OTHER = {**DEPENDS_ON, "kernel.start": "another"}
BAD: dict[str, tuple[str, Callable[[FoundationBackbone], bytes]]] = {
    "garbage": ("garbage", lambda backbone: b"no kernel at all"),
    "torn": ("garbage", lambda backbone: packed(backbone, 2)[:-7]),
    "another backbone": ("fingerprint", lambda backbone: packed(make_backbone(9), 2)),
    "another configuration": ("configuration", lambda backbone: packed(backbone, 2, depends_on=_OTHER)),
    "not finite": ("contents", lambda backbone: packed(backbone, 2, kernel=_not_finite())),
    "too short": ("shapes", lambda backbone: packed(backbone, 2, kernel=_too_short())),
    "too large": ("size", lambda backbone: b"x" * 200_001),
    "another group": ("wrong_group", lambda backbone: packed(backbone, 2, group="other")),
    "no time": ("garbage", lambda backbone: packed(backbone, 2, time=float("nan"))),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_kernel_is_counted_by_reason_and_the_old_one_stays(backbone: FoundationBackbone, case: str) -> None:
    reason, make = BAD[case]
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1))])
    held, before = kernels.current("main"), _refused(reason)
    kernels.take([record(make(backbone))])
    assert kernels.current("main") is held
    assert _refused(reason) == before + 1
    assert kernels.refusals[-1].reason == reason


def test_a_kernel_on_another_groups_partition_is_refused(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone, ("main", "other"))
    kernels.take([record(packed(backbone, 1), partition=1)])
    assert kernels.refusals[-1].reason == "wrong_partition"
    assert kernels.versions() == {"main": 0, "other": 0}


def test_a_kernel_of_no_configured_group_is_refused(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1, group="stranger"), group="stranger")])
    assert kernels.refusals[-1].reason == "unknown_group"


def test_the_log_decides_not_the_version(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    for version in (7, 4):
        kernels.take([record(packed(backbone, version))])
    assert kernels.versions() == {"main": 4}


def test_a_deleted_kernel_gives_the_identity_back(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1))])
    kernels.take([record(None)])
    assert kernels.current("main") is IDENTITY


@pytest.mark.slow
def test_the_history_is_bounded(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    data = packed(backbone, 1)
    for _ in range(1_010):
        kernels.take([record(data)])
    assert len(kernels.swaps) == 1_000


def test_a_discarded_kernel_gives_the_identity_back_once(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1))])
    kernels.discard("main", 1, "non_finite_scores", "why")
    assert kernels.current("main") is IDENTITY
    kernels.take([record(packed(backbone, 2))])
    kernels.discard("main", 1, "non_finite_scores", "an old request ends")
    assert kernels.versions() == {"main": 2}
