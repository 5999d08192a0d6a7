"""The gate in the machine: what it sets aside and undoes survives kills, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec
import numpy as np
import pytest

from features.live.features import LiveRow
from model.gate.config import GateConfig
from model.gate.gate import LearnerCheckpoint
from model.kernel.kernel import Kernel
from streaming.events import ServedFeedback, ServedImpression, Traffic
from streaming.events.decisions import Decision
from streaming.group.machine import GroupMachine
from streaming.kernel_log.checkpoints import encode_checkpoint, stored_checkpoints
from streaming.kernel_log.closed import encode_closed, stored_segments
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from tests.streaming.group.tiny import BACKBONE, JOIN, START, appended, encoded, machine, traffic

GATE = GateConfig(good_every_examples=64, user_share=1.0, item_share=1.0, false_alarm_requests=1e12)
"""Of the six users of these streams each has a fifth of all examples."""
OFFSETS = (300, 700)
"""Requests between which the labels are wrong."""
USERS = 400
OUTAGE_S = 40.0
"""How late the clicks of the span are where they are `late`."""


def stream(wrong: str, requests: int = 1_000) -> list[bytes]:
    """Traffic of many users, whose labels follow the frozen model but for a span in which they are `wrong`."""
    random = np.random.default_rng(5)
    records: list[Traffic] = []
    for record in traffic(requests, seed=4):
        if isinstance(record, ServedFeedback):
            continue
        if not isinstance(record, ServedImpression):
            records.append(record)
            continue
        number = int(record.request_id.rsplit("r", 1)[1])
        logit = 3 * record.array("frozen_logit")
        payload = logit.astype("<f4").tobytes()
        records.append(
            msgspec.structs.replace(
                record, user_id=f"u{random.integers(USERS)}", frozen_logit=payload, live_logit=payload
            )
        )
        clicks, delay = random.random(len(logit)) < 1 / (1 + np.exp(-logit)), 0.1
        if OFFSETS[0] <= number < OFFSETS[1]:
            delay = OUTAGE_S if wrong == "late" else delay
            clicks = {"turned": ~clicks, "none": np.zeros_like(clicks), "all": np.ones_like(clicks)}.get(wrong, clicks)
        records += [
            ServedFeedback(record.request_id, item, record.time + delay)
            for item, clicked in zip(record.items, clicks, strict=True)
            if clicked
        ]
    return sorted(encoded(records), key=appended)


class Durable:
    """What the log keeps of a group."""

    def __init__(self, records: Sequence[bytes]) -> None:
        self.records = records
        self.rows: dict[tuple[str, str], LiveRow] = {}
        self.state: dict[bytes | None, bytes | None] = {}
        self.snapshot = b""

    def new(self) -> GroupMachine:
        return machine(log=self.records, gate=GATE)

    def commit(self, group: GroupMachine) -> None:
        self.rows |= {(row.kind, row.key): row for row in group.rows.live.take_changed()}
        records = [
            *encode_closed("main", group.take_closed()),
            *(encode_checkpoint("main", k) for k in group.take_checkpoints()),
        ]
        self.state |= {record.key: record.value for record in records}
        self.snapshot = encode_snapshot(group.snapshot())

    def successor(self) -> tuple[GroupMachine, int]:
        snapshot = decode_snapshot(self.snapshot, group="main", fingerprint=BACKBONE.fingerprint)
        group, kept = self.new(), stored_checkpoints("main", self.state)
        group.restore(snapshot, list(self.rows.values()), stored_segments("main", self.state), 0, kept)
        return group, snapshot.resume_offset


Behind = tuple[GroupMachine, list[Decision], list[bool]]
"""The group behind all records, its decisions, and at each record whether something waited."""


def play(records: Sequence[bytes], kills: Sequence[int] = ()) -> Behind:
    """A group that takes all records, and is killed behind some of them."""
    durable = Durable(records)
    group, offset, decisions, waited = durable.new(), 0, [], []
    left = list(kills)
    while offset < len(records):
        group.feed(offset, records[offset], appended(records[offset]))
        decisions += group.take_decisions()
        waited.append(bool(group.guarded.gate.waiting))
        offset += 1
        if left and offset > left[0] and not group.recovering:
            left.pop(0)
            durable.commit(group)
            group, offset = durable.successor()
    return group, decisions, waited


@cache
def without_clicks() -> Behind:
    """Shared: to be looked at and not fed."""
    return play(stream("none"))


@pytest.mark.parametrize("wrong", ["turned", "none", "all"])
def test_wrong_labels_are_not_learned_and_the_identity_kernel_is_served_meanwhile(wrong: str) -> None:
    group, all_decisions, _ = without_clicks() if wrong == "none" else play(stream(wrong))
    decisions = [decision for decision in all_decisions if decision.by == "gate"]
    kinds = [decision.kind for decision in decisions]
    assert kinds[:2] == ["quarantined", "rolled_back"]
    assert decisions[0].detail["stratum"] == "group" or decisions[0].detail["nats"] > 9
    assert decisions[1].detail["to"] == "identity"
    assert "resumed" in kinds
    assert group.dropped["set_aside"] > 800


def test_late_clicks_of_quarantined_requests_are_not_learned_and_are_counted() -> None:
    late, _, _ = play(stream("late"))
    none, _, _ = without_clicks()
    assert late.dropped["unlearned_click"] > 100
    assert late.dropped["set_aside"] == none.dropped["set_aside"] > 800, "examples alone, not the clicks that came late"


def test_a_replay_with_a_long_enough_window_learns_late_clicks_as_on_time() -> None:
    longer = JOIN.model_copy(update={"window_s": OUTAGE_S + 10})
    groups = []
    for wrong in ("late", "nothing"):
        records = stream(wrong, 500)
        group = machine(log=records, gate=GATE, join=longer)
        for offset, value in enumerate(records):
            group.feed(offset, value, appended(value))
        groups.append(group)
    mended, sound = groups
    assert not mended.dropped and mended.publisher.examples > 1_500
    assert mended.learner.snapshot() == sound.learner.snapshot()
    assert [(r.key, r.values.tobytes()) for r in mended.rows.live.rows()] == [
        (r.key, r.values.tobytes()) for r in sound.rows.live.rows()
    ]


def test_kills_while_labels_are_in_doubt_or_quarantined_change_nothing() -> None:
    records = stream("none")
    reference, decisions, waited = without_clicks()
    assert decisions and any(waited), "or the test says little"
    doubt = waited.index(True)
    group, again, _ = play(records, [doubt, doubt + 1, doubt + 5, len(records) // 2, len(records) * 3 // 4])
    assert [d.detail for d in again] == [d.detail for d in decisions]
    one, other = (msgspec.structs.asdict(m.snapshot()) for m in (reference, group))
    assert {key: one[key] for key in one if key != "join"} == {key: other[key] for key in other if key != "join"}
    assert kept_of(reference) == kept_of(group)


def kept_of(group: GroupMachine) -> list[LearnerCheckpoint | None]:
    gate = group.guarded.gate
    return [gate.good, gate.next_good]


def test_a_rolled_back_kernel_has_a_higher_version_than_the_one_it_replaces() -> None:
    records = stream("turned")
    durable, versions = Durable(records), []
    group = durable.new()
    for offset, value in enumerate(records):
        group.feed(offset, value, appended(value))
        if group.publisher.published is not None:
            versions.append((group.publisher.published.info.version, group.publisher.published.kernel))
    assert [version for version, _ in versions] == sorted(version for version, _ in versions)
    identity = Kernel.identity(START).weights
    assert any(version > 1 and np.array_equal(kernel.weights, identity) for version, kernel in versions)


def test_harm_restores_the_last_good_state_and_late_clicks_do_not_correct_undone_batches() -> None:
    group, _, _ = play(stream("turned")[:600])
    guarded = group.guarded
    assert guarded.gate.good is not None
    before = group.learner.examples
    for reason in ("once", "twice"):
        step = guarded.settle()
        guarded._undo(guarded.gate.harm._go_back(serve=False, detail={"reason": reason}), step)
        assert step.decisions[0].detail == {"reason": reason, "to": "good" if reason == "once" else "start"}
    assert group.learner.examples == before
    assert guarded.was_undone(before)
    assert guarded.gate.held


def test_before_the_first_good_state_harm_restores_the_start_and_the_decision_reports_it() -> None:
    group, _, _ = play(stream("turned")[:60])
    guarded = group.guarded
    assert guarded.gate.good is None
    step = guarded.settle()
    guarded._undo(guarded.gate.harm._go_back(serve=True, detail={}), step)
    assert [(one.kind, one.detail["to"]) for one in step.decisions[-2:]] == [
        ("rolled_back", "identity"),
        ("undone", "start"),
    ]
    assert step.served is not None
    assert np.array_equal(step.served.weights, Kernel.identity(START).weights)
