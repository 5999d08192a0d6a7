"""The gauges of a group say of the requests it learned what can be worked out from their own log."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from model.evaluation import grouped_auc, grouped_ndcg, mixed_groups
from model.kernel.trust import ARMS
from streaming.events import Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.group.learned import Learned
from streaming.processor.group_metrics import GroupMetrics
from streaming.processor.status import ShownStrata
from tests.streaming.group.tiny import SPACE, START, appended, encoded, machine, traffic

SHOWN = ShownStrata(SPACE, SPACE.domains())


def learned_from(records: Sequence[Traffic]) -> list[Learned]:
    fed = machine()
    return [one for offset, value in enumerate(encoded(records)) for one in fed.feed(offset, value, appended(value))]


def gauge(name: str, group: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"group": group, **labels})


def test_the_order_of_requests_is_judged_request_by_request_across_batches() -> None:
    records = traffic(60)
    observed = GroupMetrics("ranked", SPACE, SHOWN)
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


def test_simultaneous_requests_are_judged_separately() -> None:
    apart = [r for r in traffic(40) if not isinstance(r, ServedFeedback)]
    clicks = [ServedFeedback(r.request_id, r.items[0], 1_000.1) for r in apart if isinstance(r, ServedImpression)]
    at_once = [at_one_instant(r) for r in apart if isinstance(r, ServedImpression)]
    observed = GroupMetrics("at-once", SPACE, SHOWN)
    for one in learned_from([*at_once, *clicks, Progress({0: 2_000.0}, 1), Tick(2_000.0)]):
        assert len(one.request) == len(one.batch)
        observed.learned(one, 0.001)
    observed.summarise(machine("at-once"), waiting=0)
    assert gauge("driftline_judged_lists", "at-once") == sum(len(r.items) > 1 for r in at_once)


def at_one_instant(record: ServedImpression) -> ServedImpression:
    return msgspec.structs.replace(record, time=1_000.0)


def test_compression_and_matching_are_exported_in_nats_and_trust_by_arm() -> None:
    observed, fed = GroupMetrics("told", SPACE, SHOWN), machine("told")
    last: Learned | None = None
    for offset, value in enumerate(encoded(traffic(60))):
        for last in fed.feed(offset, value, appended(value)):
            observed.learned(last, 0.001)
    observed.summarise(fed, waiting=0)
    assert last is not None
    assert gauge("driftline_compression_kept_nats", "told") == pytest.approx(START.compression.nats_kept)
    assert gauge("driftline_compression_relevant_nats", "told") == pytest.approx(START.compression.nats_relevant)
    assert gauge("driftline_matching_nats", "told") == pytest.approx(fed.learner.nats())
    gain = fed.learner.gain(last.batch)
    assert gauge("driftline_matching_gain_nats", "told") == pytest.approx(float(gain.mean()))
    period = int(last.batch.domain[0, 2])
    same = gain[last.batch.domain[:, 2] == period]
    by_value = gauge("driftline_matching_facet_gain_nats", "told", facet="period", value=SPACE.values["period"][period])
    assert by_value == pytest.approx(float(same.mean()))
    shares = [gauge("driftline_kernel_trust_ratio", "told", arm=arm) for arm in ARMS]
    assert sum(share or 0.0 for share in shares) == pytest.approx(1.0)
    assert gauge("driftline_matching_probability", "told") == pytest.approx(last.report.matching)
