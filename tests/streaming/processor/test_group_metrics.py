"""The gauges of a group say of the requests it learned what can be worked out from their own log."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from model.evaluation import grouped_auc, grouped_ndcg, mixed_groups
from streaming.events import ServedFeedback, ServedImpression, Traffic
from streaming.processor.group_metrics import GroupMetrics, request_numbers
from streaming.processor.machine import Learned
from tests.streaming.processor.tiny import encoded, machine, traffic


def learned_from(records: Sequence[Traffic]) -> list[Learned]:
    fed = machine()
    return [one for offset, value in enumerate(encoded(records)) for one in fed.feed(offset, value)]


def gauge(name: str, group: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"group": group, **labels})


def test_the_order_of_requests_is_judged_request_by_request_across_batches() -> None:
    records = traffic(60)
    observed = GroupMetrics("ranked")
    for one in learned_from(records):
        observed.learned(one, 0.001)
    observed.summarise(machine("ranked"), waiting=0)

    clicked = {(r.request_id, r.item_id) for r in records if isinstance(r, ServedFeedback)}
    shown = [r for r in records if isinstance(r, ServedImpression)]
    label = np.array([(r.request_id, item) in clicked for r in shown for item in r.items])
    frozen = np.concatenate([r.array("frozen_logit") for r in shown])
    request = np.repeat(np.arange(len(shown)), [len(r.items) for r in shown])
    assert gauge("driftline_judged_lists", "ranked") == mixed_groups(label, request) > 20
    wanted = grouped_auc(label, frozen, request)
    assert gauge("driftline_arm_request_auc", "ranked", arm="frozen") == pytest.approx(wanted)
    assert gauge("driftline_arm_request_auc", "ranked", arm="live") == pytest.approx(wanted)
    for at in (5, 10):
        ndcg = gauge("driftline_arm_ndcg", "ranked", arm="frozen", at=str(at))
        assert ndcg == pytest.approx(grouped_ndcg(label, frozen, request, at))


def test_requests_of_one_instant_are_not_judged_as_one_list() -> None:
    at_once = [at_one_instant(r) for r in traffic(40) if not isinstance(r, ServedFeedback)]
    batches = [one.batch for one in learned_from(at_once)]
    assert batches
    assert all(request_numbers(batch) is None for batch in batches if len(batch.origin) > 2)
    observed = GroupMetrics("at-once")
    for one in learned_from(at_once):
        observed.learned(one, 0.001)
    observed.summarise(machine("at-once"), waiting=0)
    assert gauge("driftline_judged_lists", "at-once") == 0


def at_one_instant(record: Traffic) -> Traffic:
    return msgspec.structs.replace(record, time=1_000.0) if isinstance(record, ServedImpression) else record
