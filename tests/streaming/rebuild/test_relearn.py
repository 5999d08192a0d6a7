"""A bad span is left out of what a group learns: no label is false for it, and live rows forget it whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from features.config import LiveConfig
from streaming.events import ServedFeedback, ServedImpression, Traffic, encode_traffic
from streaming.group.machine import GroupMachine
from streaming.rebuild.replay import Fed, Span, relearn
from tests.streaming.group.tiny import JOIN, appended, machine, traffic

RECORDS = traffic(120, seed=7)
SHOWN = {
    record.request_id: (offset, record.time)
    for offset, record in enumerate(RECORDS)
    if isinstance(record, ServedImpression)
}
"""Offset and time of each impression."""


def flipped(records: Sequence[Traffic], span: Span) -> list[Traffic]:
    """The clicks of the span are on the other items: offsets stay, for a click becomes a click on the next item."""
    shown = {record.request_id: record for record in records if isinstance(record, ServedImpression)}
    changed: list[Traffic] = []
    for offset, record in enumerate(records):
        if isinstance(record, ServedFeedback) and offset in span:
            items = shown[record.request_id].items
            turned = items[(items.index(record.item_id) + 1) % len(items)]
            changed.append(ServedFeedback(record.request_id, turned, record.time))
        else:
            changed.append(record)
    return changed


def learned(records: Sequence[Traffic], skip: Span | None = None) -> tuple[GroupMachine, dict[float, list[float]]]:
    """The group after all records, and the labels it learned by the time of their requests."""
    values = [encode_traffic(record) for record in records]
    group, labels = machine(live=LiveConfig(), log=values), dict[float, list[float]]()

    def fed() -> Sequence[Fed]:
        return [(offset, value, appended(value)) for offset, value in enumerate(values)]

    feed = group.feed

    def noted(offset: int, value: bytes | None, at: float) -> object:
        done = feed(offset, value, at)
        for one in done:
            for time, label in zip(one.batch.time.tolist(), one.batch.label.tolist(), strict=True):
                labels.setdefault(time, []).append(label)
        return done

    group.feed = noted  # type: ignore[method-assign, assignment]
    relearn(group, fed(), skip)
    return group, labels


def touched(span: Span) -> set[float]:
    """Times of requests that were shown in the span, or whose window may have reached into it."""
    begin = appended(encode_traffic(RECORDS[span.begin]))
    reach = JOIN.window_s + JOIN.lateness_s + 2.0
    return {time for offset, time in SHOWN.values() if offset in span or (offset < span.begin and time + reach > begin)}


@pytest.mark.parametrize("span", [Span(60, 140), Span(101, 102), Span(200, 330)])
def test_skipping_a_bad_span_gives_true_labels_and_the_live_rows_of_a_log_without_it(span: Span) -> None:
    group, labels = learned(flipped(RECORDS, span), span)
    _, truth = learned(RECORDS)
    assert labels == {time: truth[time] for time in labels}
    assert truth.keys() - labels.keys() <= touched(span)
    kept = [
        record
        for record in RECORDS
        if not isinstance(record, ServedImpression | ServedFeedback) or SHOWN[record.request_id][1] in labels
    ]
    clean, _ = learned(kept)
    assert group.publisher.examples == clean.publisher.examples
    rows = [{(row.kind, row.key): row.values for row in one.rows.live.rows()} for one in (group, clean)]
    assert rows[0].keys() == rows[1].keys()
    for key, values in rows[0].items():
        np.testing.assert_allclose(values, rows[1][key], rtol=1e-4, atol=1e-4, err_msg=str(key))


def test_requests_open_at_a_skipped_span_are_counted_and_never_learned() -> None:
    group, labels = learned(RECORDS, Span(101, 102))
    assert 0 < group.dropped["left_out"] < 20
    assert len(labels) == len(SHOWN) - group.dropped["left_out"]
