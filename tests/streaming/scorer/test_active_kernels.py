"""Which kernel is taken, which is refused, and what is remembered of it. No broker."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from prometheus_client import REGISTRY

from model.backbone.foundation import FoundationBackbone
from model.encoding.domain import Domain
from model.kernel.features import KernelInputs
from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo
from streaming.events.decisions import Order, encode_order
from streaming.kernel_log.kernels import KernelRecord
from streaming.kernel_log.keys import kernel_key, learner_key
from streaming.scorer.group_kernels import IDENTITY
from tests.streaming.scorer.scoring_parts import (
    DEPENDS_ON,
    START,
    MadeUpFeatures,
    make_backbone,
    make_kernel,
    make_kernels,
    make_scorer,
    ordered,
    packed,
    pinned,
    record,
)


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


def _refused(reason: str, group: str = "main") -> float:
    labels = {"group": group, "reason": reason}
    return REGISTRY.get_sample_value("driftline_kernels_refused_total", labels) or 0.0


def test_before_the_first_kernel_the_identity_kernel_serves(backbone: FoundationBackbone) -> None:
    assert make_kernels(backbone).current("main") is IDENTITY


def test_a_valid_kernel_is_activated_and_recorded_with_its_freshness(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 3, time=998.5))])
    assert kernels.versions() == {"main": 3}
    swap = kernels.swaps[-1]
    assert (swap.version, swap.taken_at, swap.freshness_s, swap.examples, swap.at_start) == (3, 1_000, 1.5, 300, False)


def test_only_the_newest_of_several_kernels_is_built(backbone: FoundationBackbone) -> None:
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


def test_the_snapshot_of_the_learner_is_skipped(backbone: FoundationBackbone) -> None:
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
def test_an_invalid_kernel_is_counted_by_reason_and_the_old_one_stays_active(
    backbone: FoundationBackbone, case: str
) -> None:
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


def test_a_kernel_of_an_unknown_group_is_refused(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1, group="stranger"), group="stranger")])
    assert kernels.refusals[-1].reason == "unknown_group"


def test_the_log_order_decides_and_not_the_version(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    for version in (7, 4):
        kernels.take([record(packed(backbone, version))])
    assert kernels.versions() == {"main": 4}


def test_a_deleted_kernel_restores_the_identity(backbone: FoundationBackbone) -> None:
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


def test_a_discarded_kernel_restores_the_identity_once(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1))])
    kernels.discard("main", 1, "non_finite_scores", "why")
    assert kernels.current("main") is IDENTITY
    kernels.take([record(packed(backbone, 2))])
    kernels.discard("main", 1, "non_finite_scores", "an old request ends")
    assert kernels.versions() == {"main": 2}


# --- what an operator orders ---


def test_a_pinned_kernel_serves_until_unpinned_and_then_the_newest_serves(
    backbone: FoundationBackbone,
) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    kernels.apply_orders([pinned(backbone, 3)])
    kernels.take([record(packed(backbone, 6))])
    assert kernels.versions() == {"main": 3}
    state = kernels.state("main")
    assert (state.pinned, state.published, state.by, state.why) == (3, 6, "ann", "a test")
    assert REGISTRY.get_sample_value("driftline_kernel_pinned", {"group": "main"}) == 3
    kernels.apply_orders([ordered(Order("main"))])
    assert kernels.versions() == {"main": 6}
    assert [(swap.version, swap.ordered) for swap in kernels.swaps] == [(5, False), (3, True), (6, True)]


def test_an_order_before_any_kernel_is_applied(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.apply_orders([pinned(backbone, 3)])
    kernels.take([record(packed(backbone, 6))], at_start=True)
    assert kernels.versions() == {"main": 3}


def test_the_newest_of_several_orders_applies_and_a_deleted_order_has_no_effect(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    kernels.apply_orders([pinned(backbone, 3), ordered(Order("main", frozen=True)), pinned(backbone, 2)])
    assert kernels.versions() == {"main": 2}
    kernels.apply_orders([KernelRecord(0, b"main", None)])
    assert kernels.versions() == {"main": 5}


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("bad_order", b"5"),
        ("bad_order", b"\xff"),
        ("bad_order", b"[" * 100_000),
        ("bad_order", encode_order(Order("other"))),
        ("garbage", encode_order(Order("main", pinned_version=3))),
        ("garbage", encode_order(Order("main", pinned_version=3, kernel=b"no kernel"))),
    ],
)
def test_an_inapplicable_order_is_refused_by_name_and_the_published_kernel_serves(
    backbone: FoundationBackbone, reason: str, value: bytes
) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    kernels.apply_orders([KernelRecord(0, b"main", value)])
    assert kernels.refusals[-1].reason == reason
    assert kernels.versions() == {"main": 5}
    kernels.apply_orders([pinned(backbone, 3)])
    assert kernels.versions() == {"main": 3}


# --- sense, not form ---


def _asked(backbone: FoundationBackbone) -> KernelInputs:
    rows = MadeUpFeatures(backbone).represent("user", [f"item-{i}" for i in range(16)], Domain(), 0.0)
    return KernelInputs(rows.x, rows.live, torch.from_numpy(rows.values), rows.frozen_logit)


def _changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Kernel:
    return Kernel(START, change(make_kernel(1, scale=0.1).weights.clone()))


def _shifted(weights: torch.Tensor) -> torch.Tensor:
    weights[1] = -9.0
    return weights


def _only(index: int, value: float) -> torch.Tensor:
    weights = torch.zeros(START.features.width)
    weights[index] = value
    return weights


SENSELESS = {
    "saturated": lambda: _changed(lambda weights: weights * 1e6),
    "far_off": lambda: _changed(_shifted),
    "collapsed": lambda: _changed(lambda weights: _only(1, -1.0)),
}


@pytest.mark.parametrize("reason", SENSELESS)
def test_a_well_formed_kernel_with_implausible_scores_is_refused(backbone: FoundationBackbone, reason: str) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1, kernel=make_kernel(1, scale=0.1)))])
    for _ in range(4):
        kernels.observe("main", _asked(backbone))
    kernels.take([record(packed(backbone, 2, kernel=SENSELESS[reason]()))])
    assert kernels.refusals[-1].reason == reason
    assert kernels.versions() == {"main": 1}


@pytest.mark.parametrize("reason", SENSELESS)
def test_an_implausible_kernel_activated_at_startup_is_deactivated_by_the_first_requests(
    backbone: FoundationBackbone, reason: str
) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 2, kernel=SENSELESS[reason]()))], at_start=True)
    for _ in range(10):
        kernels.observe("main", _asked(backbone))
    assert kernels.refusals[-1].reason == reason
    assert kernels.versions() == {"main": 0}


def test_the_warm_up_deactivates_a_saturated_kernel_before_any_request(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 2, kernel=SENSELESS["saturated"]()))], at_start=True)
    make_scorer(backbone, kernels).warm_up(["a", "b"])
    assert kernels.refusals[-1].reason == "saturated"
    assert kernels.versions() == {"main": 0}


def test_extreme_but_valid_kernels_of_a_learner_are_accepted(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    for _ in range(4):
        kernels.observe("main", _asked(backbone))
    for version in range(1, 30):
        kernels.take([record(packed(backbone, version, kernel=make_kernel(version, scale=0.3)))])
        assert kernels.versions() == {"main": version}, kernels.refusals


def test_a_deleted_kernel_is_counted_by_name(backbone: FoundationBackbone) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 1))])
    before = _refused("deleted")
    kernels.take([record(None)])
    assert _refused("deleted") == before + 1


def _container(metadata: str) -> bytes:
    header = json.dumps({"__metadata__": {"driftline": metadata}}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize("metadata", ["5", "[" * 5_000, "null", '{"kind": "kernel", "format": {"a": [[[]]]}}'])
def test_invalid_metadata_is_refused_and_the_next_kernel_is_activated(
    backbone: FoundationBackbone, metadata: str
) -> None:
    kernels = make_kernels(backbone)
    kernels.take([record(_container(metadata))])
    assert kernels.refusals[-1].reason in {"garbage", "format"}
    kernels.take([record(packed(backbone, 1))])
    assert kernels.versions() == {"main": 1}


@pytest.mark.parametrize("error", [AttributeError("'int' has no attribute 'get'"), RecursionError(), MemoryError()])
def test_an_error_on_one_record_does_not_stop_the_next_ones(backbone: FoundationBackbone, error: Exception) -> None:
    kernels = make_kernels(backbone)
    build = kernels.build

    def fails(data: bytes) -> tuple[Kernel, KernelInfo]:
        if data == b"odd":
            raise error
        return build(data)

    kernels.build = fails
    kernels.take([record(b"odd")])
    assert kernels.refusals[-1].reason == "garbage"
    kernels.take([record(packed(backbone, 1))])
    assert kernels.versions() == {"main": 1}


@pytest.mark.parametrize("reason", ["saturated", "far_off"])
def test_the_warm_up_does_not_deactivate_a_pinned_kernel(backbone: FoundationBackbone, reason: str) -> None:
    kernels = make_kernels(backbone)
    kernels.apply_orders([pinned(backbone, 3, kernel=packed(backbone, 3, kernel=SENSELESS[reason]()))])
    make_scorer(backbone, kernels).warm_up(["a", "b"])
    assert kernels.versions() == {"main": 3}
