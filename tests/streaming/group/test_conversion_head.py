"""The conversion task of a group: exact, restored bit for bit, and apart from that of clicks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.config import LiveConfig
from features.live.features import LiveRow
from features.live.tasks import split_by_task
from model.gate.config import GateConfig
from model.kernel.record import pack_kernel
from streaming.config import JoinConfig
from streaming.events import ConvertingImpression, LearningOrder, ServedFeedback, Traffic
from streaming.group.batches import conversion_batch
from streaming.group.machine import GroupMachine
from streaming.join.join import LabelledRequest
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from tests.streaming.group.converting import BOTH, JOIN, both_tasks, shop, without_conversions
from tests.streaming.group.restarts import Store, same
from tests.streaming.group.tiny import BACKBONE, LIVE, SPACE, appended, encoded, machine

RECORDS = shop(80)
VALUES = encoded(RECORDS)


def run(
    records: Sequence[Traffic], join: JoinConfig = JOIN, *, lost: bool = False, live: LiveConfig = LIVE
) -> GroupMachine:
    values = encoded(records)
    group = both_tasks([None] * len(values) if lost else values, join=join, live=live)
    for offset, value in enumerate(values):
        group.feed(offset, value, appended(value))
    return group


@pytest.fixture(scope="module")
def learned() -> GroupMachine:
    return run(RECORDS)


def rows_of(group: GroupMachine) -> dict[tuple[str, str], LiveRow]:
    return {(row.kind, row.key): row for row in split_by_task(group.rows.all())[1]}


def clicks(records: Sequence[Traffic]) -> int:
    return sum(isinstance(record, ServedFeedback) and record.kind == "click" for record in records)


def test_every_click_is_learned_once_when_its_labels_are_final(learned: GroupMachine) -> None:
    assert learned.conversions.head is not None
    assert learned.conversions.head.learned == clicks(RECORDS)
    assert not learned.dropped


def test_the_learned_conversion_kernel_is_served_with_the_click_kernel(learned: GroupMachine) -> None:
    published = learned.publisher.published
    assert published is not None
    head = published.kernel.conversion
    assert head is not None
    assert not torch.equal(head.weights, BOTH.conversion.features.identity())  # type: ignore[union-attr]
    assert pack_kernel(published.kernel, published.info, published.depends_on)


def test_an_untrained_conversion_task_equals_the_frozen_arm_bit_for_bit() -> None:
    shown = next(record for record in RECORDS if isinstance(record, ConvertingImpression))
    kernel = both_tasks().publisher.candidate(1).kernel.conversion
    assert kernel is not None
    ones = np.ones(len(shown.items), dtype=np.bool_)
    batch = conversion_batch([LabelledRequest(0, shown, ones, ones)], SPACE)
    assert torch.equal(kernel.logit(batch.inputs), batch.frozen_logit)


def test_before_its_window_closes_a_click_is_in_the_rows_and_is_not_learned() -> None:
    group = run([record for record in RECORDS if not hasattr(record, "time") or record.time < 1_015])
    assert group.conversions.head is not None
    assert group.conversions.head.learned == 0
    assert rows_of(group)


# --- apart from clicks ---


@given(seed=st.integers(0, 40), late=st.sampled_from([0.0, 0.4]))
@settings(max_examples=4)
def test_the_click_task_is_unaffected_by_conversions(seed: int, late: float) -> None:
    records = shop(40, seed, late=late)
    plain = encoded(without_conversions(records))
    alone = machine(log=plain, join=JOIN)
    for offset, value in enumerate(plain):
        alone.feed(offset, value, appended(value))
    group = run(records)
    plain_rows = [
        {(r.kind, r.key): (r.updated_at, r.values.tobytes()) for r in g.rows.live.rows()} for g in (alone, group)
    ]
    assert plain_rows[0] == plain_rows[1]
    assert torch.equal(alone.learner.candidate.weights, group.learner.candidate.weights)
    assert alone.publisher.version == group.publisher.version
    assert alone.publisher.published is not None
    assert group.publisher.published is not None
    assert torch.equal(alone.publisher.published.kernel.weights, group.publisher.published.kernel.weights)


def test_a_backbone_without_conversions_has_unchanged_snapshots_and_records() -> None:
    group = machine()
    assert b"conversions" not in encode_snapshot(group.snapshot())
    kernel = group.publisher.candidate(1)
    assert kernel.kernel.conversion is None
    assert b"cvr" not in pack_kernel(kernel.kernel, kernel.info, kernel.depends_on)


# --- exact ---


@given(seed=st.integers(0, 40))
@settings(max_examples=4)
def test_late_conversions_give_the_same_rows_as_conversions_on_time(seed: int) -> None:
    records = shop(40, seed)
    shown = {r.request_id: r.time for r in records if isinstance(r, ConvertingImpression)}
    on_time = [
        msgspec.structs.replace(r, time=shown[r.request_id] + 0.3)
        if isinstance(r, ServedFeedback) and r.kind == "conversion"
        else r
        for r in records
    ]
    late, punctual = run(records, live=LiveConfig()), run(sorted(on_time, key=_moment), live=LiveConfig())
    assert rows_of(late).keys() == rows_of(punctual).keys()
    for key, row in rows_of(late).items():
        other = rows_of(punctual)[key]
        assert row.updated_at == other.updated_at
        np.testing.assert_allclose(row.values, other.values, rtol=2e-4, atol=2e-4)
    heads = [group.conversions.head for group in (late, punctual)]
    assert heads[0] is not None
    assert heads[1] is not None
    assert heads[0].learner.snapshot() == heads[1].learner.snapshot()


def _moment(record: Traffic) -> tuple[float, int]:
    order = {"ConvertingImpression": 0, "ServedFeedback": 1, "Progress": 2, "Tick": 3}[type(record).__name__]
    return max(record.read.values()) if hasattr(record, "read") else record.time, order  # type: ignore[union-attr]


@given(
    kills=st.lists(st.integers(0, len(VALUES) - 2), max_size=3, unique=True),
    every=st.sampled_from([3, 11]),
)
@settings(max_examples=3)
def test_kills_at_any_record_change_no_bit_of_either_task(learned: GroupMachine, kills: list[int], every: int) -> None:
    store = Store(lambda: both_tasks(VALUES))
    group, offset, left = both_tasks(VALUES), 0, sorted(kills)
    while offset < len(VALUES):
        group.feed(offset, VALUES[offset], appended(VALUES[offset]))
        if offset % every == 0 and not group.recovering:
            store.commit(group)
        offset += 1
        if left and offset > left[0]:
            left.pop(0)
            group, offset = store.successor()
    assert same(group, learned)
    assert group.publisher.version == learned.publisher.version


# --- the gate of the task ---


def harmful(records: Sequence[Traffic]) -> list[Traffic]:
    """The live arm predicts the opposite of the frozen arm with high confidence."""
    return [_sure(record) if isinstance(record, ConvertingImpression) else record for record in records]


def _sure(shown: ConvertingImpression) -> ConvertingImpression:
    logit = -8.0 * np.sign(shown.array("cvr_frozen_logit") + 1.0)
    return msgspec.structs.replace(shown, cvr_live_logit=logit.astype("<f4").tobytes())


QUICK = GateConfig(false_alarm_requests=1.1, label_odds=1e9, user_share=1.0, item_share=1.0, late_share=1.0)


def test_if_the_conversion_task_does_harm_its_frozen_arm_serves_and_clicks_continue() -> None:
    values = encoded(harmful(RECORDS))
    group, decisions = both_tasks(values, of_conversions=QUICK), []
    for offset, value in enumerate(values):
        group.feed(offset, value, appended(value))
        decisions += group.take_decisions()
    assert {decision.detail["task"] for decision in decisions if decision.kind == "rolled_back"} == {"conversions"}
    assert group.conversions.head is not None
    assert group.publisher.published is not None
    assert group.publisher.published.kernel.conversion is not None
    if group.conversions.head.gate.harm.on_probation:
        assert torch.equal(group.publisher.published.kernel.conversion.weights, BOTH.conversion.features.identity())  # type: ignore[union-attr]
    assert torch.equal(group.learner.candidate.weights, run(RECORDS).learner.candidate.weights)


# --- what may be wrong ---


def test_an_impression_without_conversion_scores_is_refused_by_name() -> None:
    group = run(without_conversions(RECORDS))
    assert group.dropped["other_tasks"] == sum(isinstance(record, ConvertingImpression) for record in RECORDS)


def test_a_snapshot_without_conversions_is_refused_with_a_remedy(learned: GroupMachine) -> None:
    stored = msgspec.structs.replace(learned.snapshot(), conversions=msgspec.UNSET)
    snapshot = decode_snapshot(encode_snapshot(stored), group="main", fingerprint=BACKBONE.fingerprint)
    with pytest.raises(SnapshotError, match=r"holds no conversions, but the backbone tells them.*topics of its own"):
        both_tasks().restore(snapshot, [], {})


def test_clicks_with_expired_impressions_are_counted_and_left_out() -> None:
    group = run(RECORDS, lost=True)
    assert group.conversions.head is not None
    assert group.conversions.head.learned == 0
    assert group.dropped["uncorrectable"] > 0


def test_clicks_evicted_too_early_are_counted() -> None:
    group = run(RECORDS, JOIN.model_copy(update={"horizon_bytes": 4_000}))
    assert group.conversions.head is not None
    assert group.dropped["immature"] > 0
    assert group.conversions.head.learned < clicks(RECORDS)


def test_while_learning_is_stopped_conversions_are_not_learned() -> None:
    group = run([LearningOrder(learning=False, by="ann"), *RECORDS])
    assert group.conversions.head is not None
    assert group.conversions.head.learned == 0
    assert not rows_of(group)


def test_without_any_conversion_the_labels_are_quarantined_and_reported() -> None:
    none = encoded([r for r in RECORDS if not isinstance(r, ServedFeedback) or r.kind == "click"])
    group, decisions = both_tasks(none), []
    for offset, value in enumerate(none):
        group.feed(offset, value, appended(value))
        decisions += group.take_decisions()
    details = [one.detail for one in decisions if one.kind == "quarantined"]
    assert [one["task"] for one in details] == ["conversions"]
    assert details[0]["reason"] == "far fewer conversions than expected"
    assert group.conversions.head is not None
    waiting = sum(len(batch.weight) for batch in group.conversions.head.gate.waiting)
    assert group.conversions.head.learned + group.dropped["set_aside"] + waiting == clicks(RECORDS)
    assert group.conversions.head.learned < 16, "less than a micro-batch before the alarm"
