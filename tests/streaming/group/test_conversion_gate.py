"""Labels of conversions are judged like clicks: doubtful ones are not learned, and kills change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec
import numpy as np
import pytest
import torch
from prometheus_client import REGISTRY

from local.control.views import of_conversions
from model.gate.config import GateConfig
from model.kernel.kernel import Kernel
from streaming.events import LearningOrder, Progress, ServedFeedback, Tick, Traffic
from streaming.events.decisions import Decision
from streaming.events.status import decode_status, encode_status
from streaming.group.machine import GroupMachine
from streaming.processor.group_metrics import GroupMetrics
from streaming.processor.status import ShownStrata
from tests.streaming.group.converting import JOIN, OF_CONVERSIONS, both_tasks, converting
from tests.streaming.group.restarts import Store, same
from tests.streaming.group.tiny import SPACE, appended, encoded, machine, served

GATE = GateConfig(user_share=1.0, item_share=1.0, false_alarm_requests=1e12)
SPAN = (400, 800)
"""Requests between which conversions are wrong."""
REQUESTS = 1_200
USERS = 400
JOINED = JOIN.model_copy(update={"conversion_window_s": 4.0, "horizon_s": 4.0})


def stream(wrong: str, periods: Sequence[str] = ("day", "night")) -> list[bytes]:
    """Two of three items are clicked; conversions follow the frozen model but for a span, in some periods."""
    random = np.random.default_rng(5)
    records: list[tuple[float, Traffic]] = []
    for number in range(REQUESTS):
        time, request = 1_000.0 + 0.1 * number, f"main.r{number}"
        items = [f"i{item}" for item in random.choice(300, size=int(random.integers(3, 6)), replace=False)]
        plain = converting(served(request, time, items, random), random)
        shown = msgspec.structs.replace(plain, user_id=f"u{random.integers(USERS)}")
        records.append((time, shown))
        logit = shown.array("cvr_frozen_logit")
        clicks, converts = random.random(len(items)) < 0.67, random.random(len(items)) < 1 / (1 + np.exp(-logit))
        if SPAN[0] <= number < SPAN[1] and shown.domain.period in periods:
            wrongly = {"turned": ~converts, "none": np.zeros_like(converts), "all": np.ones_like(converts)}
            converts = wrongly.get(wrong, converts)
        for item, clicked, converted in zip(items, clicks, converts, strict=True):
            if clicked:
                records.append((time + 0.2, ServedFeedback(request, item, time + 0.2)))
                if converted:
                    records.append((time + 2.0, ServedFeedback(request, item, time + 2.0, "conversion")))
    times = np.arange(1_000.0, 1_000.0 + 0.1 * REQUESTS + 20.0, 0.5).tolist()
    records += [(at, record) for at in times for record in (Progress({0: at}, 1), Tick(at))]
    return encoded([record for _, record in sorted(records, key=lambda one: one[0])])


Behind = tuple[GroupMachine, list[Decision], list[bool], list[Kernel]]
"""The group behind all records, the decisions on conversions, where something waited, and what was published."""


def play(records: Sequence[bytes], kills: Sequence[int] = ()) -> Behind:
    """A group that takes all records, and is killed behind some of them."""
    store = Store(lambda: both_tasks(records, join=JOINED, of_conversions=GATE))
    group, offset, decisions, waited, kernels = store.successor()[0], 0, [], [], []
    left = list(kills)
    while offset < len(records):
        before = group.publisher.version
        group.feed(offset, records[offset], appended(records[offset]))
        decisions += [one for one in group.take_decisions() if one.detail.get("task") == "conversions"]
        assert group.conversions.head is not None
        waited.append(bool(group.conversions.head.gate.waiting))
        if group.publisher.version > before and group.publisher.published is not None:
            assert group.publisher.published.kernel.conversion is not None
            kernels.append(group.publisher.published.kernel.conversion)
        offset += 1
        if left and offset > left[0] and not group.recovering:
            left.pop(0)
            store.commit(group)
            group, offset = store.successor()
    return group, decisions, waited, kernels


@cache
def played(wrong: str) -> Behind:
    """Shared: to be looked at and not fed."""
    return play(stream(wrong))


def learned(group: GroupMachine) -> int:
    assert group.conversions.head is not None
    return group.conversions.head.learned


IDENTITY = Kernel.identity(OF_CONVERSIONS).weights


def test_correct_conversions_are_all_learned() -> None:
    group, decisions, _, kernels = played("nothing")
    assert decisions == []
    assert not group.dropped
    assert not torch.equal(kernels[-1].weights, IDENTITY)


@pytest.mark.parametrize("wrong", ["none", "all", "turned"])
def test_wrong_conversions_are_not_learned_and_the_frozen_arm_serves_meanwhile(wrong: str) -> None:
    group, decisions, _, kernels = played(wrong)
    assert [one.kind for one in decisions][:2] == ["quarantined", "rolled_back"]
    assert decisions[0].detail["stratum"] == "group"
    assert "conversions" in decisions[0].detail["reason"]
    assert decisions[1].detail["to"] == "identity"
    assert "resumed" in [one.kind for one in decisions]
    assert any(torch.equal(kernel.weights, IDENTITY) for kernel in kernels[10:])
    sound, *_ = played("nothing")
    assert group.dropped["set_aside"] > 800
    assert learned(group) + group.dropped["set_aside"] == learned(sound)
    assert torch.equal(group.learner.candidate.weights, sound.learner.candidate.weights), "clicks go on"


def test_only_the_domain_whose_conversions_stop_is_quarantined() -> None:
    _, decisions, _, _ = play(stream("none", ["night"]))
    assert decisions[0].kind == "quarantined"
    assert {one.detail["stratum"] for one in decisions if one.kind == "quarantined"} == {"period=night"}


def test_kills_while_conversions_are_in_doubt_or_quarantined_change_nothing() -> None:
    records = stream("none")
    reference, decisions, waited, _ = played("none")
    assert any(waited), "or the test says little"
    doubt = waited.index(True)
    again, others, _, _ = play(records, [doubt, doubt + 1, doubt + 5, len(records) // 2, len(records) * 3 // 4])
    assert [one.detail for one in others] == [one.detail for one in decisions]
    assert same(again, reference)


def test_doubtful_conversions_missing_in_the_log_are_counted_as_lost() -> None:
    records = stream("none")
    doubt = played("none")[2].index(True)
    store = Store(lambda: both_tasks([None] * len(records), join=JOINED, of_conversions=GATE))
    group = both_tasks(records, join=JOINED, of_conversions=GATE)
    for offset in range(doubt + 1):
        group.feed(offset, records[offset], appended(records[offset]))
    assert group.conversions.head is not None
    waiting = sum(len(batch.requests) for batch in group.conversions.head.gate.waiting)
    store.commit(group)
    successor, offset = store.successor()
    while successor.recovering:
        successor.feed(offset, records[offset], appended(records[offset]))
        offset += 1
    assert successor.conversions.head is not None
    assert successor.conversions.head.gate.waiting == []
    assert successor.dropped["uncorrectable"] == waiting > 0


def test_an_order_to_stop_learning_decides_doubtful_conversions() -> None:
    records = stream("none")
    doubt = played("none")[2].index(True)
    group = both_tasks(records, join=JOINED, of_conversions=GATE)
    for offset in range(doubt + 1):
        group.feed(offset, records[offset], appended(records[offset]))
    (order,) = encoded([LearningOrder(learning=False, by="ann")])
    group.feed(doubt + 1, order, 0.0)
    assert group.conversions.head is not None
    assert group.conversions.head.gate.waiting == []


def test_the_status_and_the_gauges_report_conversion_performance() -> None:
    group, *_ = played("nothing")
    observed = GroupMetrics("converting", SPACE, ShownStrata(SPACE, SPACE.domains()))
    conversions = decode_status(encode_status(observed.status(group, 0.0))).conversions
    observed.summarise(group, waiting=0)
    assert conversions is not None
    assert (conversions.learned, conversions.held, conversions.set_aside) == (learned(group), "", [])
    assert conversions.rate == pytest.approx(0.32, abs=0.05)
    assert set(conversions.arms) == {"frozen", "live", "candidate"}
    frozen = {"group": "converting", "arm": "frozen"}
    assert REGISTRY.get_sample_value("driftline_cvr_log_loss", frozen) == conversions.arms["frozen"].log_loss
    assert REGISTRY.get_sample_value("driftline_cvr_ratio", {"group": "converting"}) == conversions.rate


def test_the_status_reports_quarantined_conversions_and_why_the_gate_holds() -> None:
    records = stream("none")
    group = both_tasks(records, join=JOINED, of_conversions=GATE)
    observed = GroupMetrics("stopped", SPACE, ShownStrata(SPACE, SPACE.domains()))
    for offset, value in enumerate(records):
        group.feed(offset, value, appended(value))
        assert group.conversions.head is not None
        if group.conversions.head.gate.harm.on_probation:
            break
    conversions = observed.status(group, 0.0).conversions
    observed.summarise(group, waiting=0)
    assert conversions is not None
    assert conversions.set_aside == ["group"]
    assert conversions.held in {"labels are in doubt", "the candidate is on probation"}
    stopped = {"group": "stopped"}
    values = [REGISTRY.get_sample_value(f"driftline_cvr_{name}", stopped) for name in ("held", "set_aside")]
    assert values == [1, 1]


def test_the_status_of_a_group_without_conversions_has_none() -> None:
    assert GroupMetrics("clicks", SPACE, ShownStrata(SPACE, [])).status(machine("clicks"), 0.0).conversions is None


def test_the_list_of_kernels_shows_the_last_decision_on_conversions() -> None:
    detail = {"stratum": "scene=home", "reason": "far fewer conversions than expected", "task": "conversions"}
    first = Decision("quarantined", "main", 0.0, "gate", detail)
    last = Decision("resumed", "main", 60.0, "gate", {**detail, "reason": "labels are as expected again"})
    of_clicks = Decision("held", "main", 90.0, "gate", {"reason": "labels are in doubt"})
    wanted = "conversions: resumed in scene=home, 1970-01-01 00:01:00Z: labels are as expected again"
    assert of_conversions([first, last, of_clicks]).strip() == wanted
    assert of_conversions([of_clicks]) == ""
