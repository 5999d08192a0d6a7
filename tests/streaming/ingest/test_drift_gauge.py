"""Announced drift as a metric: alone, and through ingest on the real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from streaming.config import Config
from streaming.events import DriftEvent, DriftPhase, encode_event
from streaming.ingest.drift_gauge import MAX_SHOWN, DriftGauge
from streaming.monitoring import metrics
from tests.streaming.ingest.running_ingest import click, eventually, running

EVENTS = st.lists(
    st.builds(
        DriftEvent,
        st.sampled_from(["sale", "holiday"]),
        st.sampled_from(["campaign", "taste"]),
        st.sampled_from(["begins", "full", "ends"]),
        st.integers(0, 9).map(float),
    ),
    max_size=12,
)


@pytest.fixture(autouse=True)
def clean_metric() -> Iterator[None]:
    metrics.ingest.DRIFT_ANNOUNCED.clear()
    yield
    metrics.ingest.DRIFT_ANNOUNCED.clear()


def shown(name: str = "sale", kind: str = "campaign") -> float | None:
    return REGISTRY.get_sample_value("driftline_drift_announced", {"name": name, "kind": kind})


def all_shown() -> dict[tuple[str, str], float]:
    samples = [sample for metric in metrics.ingest.DRIFT_ANNOUNCED.collect() for sample in metric.samples]
    return {(sample.labels["name"], sample.labels["kind"]): sample.value for sample in samples}


def announcement(phase: DriftPhase, at: float, name: str = "sale", kind: str = "campaign") -> DriftEvent:
    return DriftEvent(name, kind, phase, at)


def gauge_of(*events: DriftEvent, keep_s: float = 60.0) -> DriftGauge:
    gauge = DriftGauge(keep_s)
    for event in events:
        gauge.take(0, event)
    return gauge


def test_drift_is_active_from_its_begin_to_its_end() -> None:
    gauge = DriftGauge(60.0)
    values = []
    for at, phase in enumerate(("begins", "full", "ends", "begins")):
        gauge.take(0, announcement(phase, float(at)))  # type: ignore[arg-type]
        gauge.show(10.0, {0})
        values.append(shown())
    assert values == [1, 1, 0, 1]


def test_two_kinds_with_one_name_are_two_drifts() -> None:
    gauge_of(
        announcement("begins", 1.0), announcement("begins", 1.0, kind="taste"), announcement("ends", 2.0)
    ).show(3.0, {0})  # fmt: skip
    assert all_shown() == {("sale", "campaign"): 0, ("sale", "taste"): 1}


def test_a_late_announcement_changes_nothing() -> None:
    gauge_of(announcement("begins", 1.0), announcement("ends", 5.0), announcement("full", 2.0)).show(6.0, {0})
    assert shown() == 0


@given(EVENTS)
def test_records_that_are_read_again_change_nothing(events: list[DriftEvent]) -> None:
    events.sort(key=lambda event: event.time)
    metrics.ingest.DRIFT_ANNOUNCED.clear()
    gauge_of(*events).show(10.0, {0})
    once = all_shown()
    for again in range(len(events) + 1):
        metrics.ingest.DRIFT_ANNOUNCED.clear()
        gauge_of(*events, *events[again:]).show(10.0, {0})
        assert all_shown() == once


def test_drift_without_an_end_expires() -> None:
    gauge = gauge_of(announcement("begins", 100.0))
    gauge.show(160.0, {0})
    assert shown() == 1
    gauge.show(160.5, {0})
    assert shown() == 0


def test_ended_drift_is_evicted_before_active_drift() -> None:
    names = [f"n{n}" for n in range(MAX_SHOWN)]
    gauge = gauge_of(
        *(announcement("begins", float(n), name) for n, name in enumerate(names)), announcement("ends", 90.0, "n7")
    )
    gauge.take(0, announcement("begins", 100.0, "new"))
    gauge.take(0, announcement("begins", 101.0, "newer"))
    gauge.show(101.0, {0})
    assert {name for name, _ in all_shown()} == {*names, "new", "newer"} - {"n7", "n0"}


def test_announcements_of_revoked_partitions_are_not_shown() -> None:
    gauge = gauge_of(announcement("begins", 1.0))
    gauge.take(1, announcement("begins", 1.0, "holiday"))
    gauge.show(2.0, {0, 1})
    assert (shown("sale"), shown("holiday")) == (1, 1)
    gauge.show(2.0, {1})
    gauge.show(2.0, {0, 1})
    assert (shown("sale"), shown("holiday")) == (None, 1)


def test_ingest_shows_drift_from_begin_to_end_and_malformed_announcements_are_dead_letters(
    stream_config: Config,
) -> None:
    with running(stream_config) as ingest:
        ingest.send(
            encode_event(announcement("begins", time.time())),
            b'{"event": "drift", "name": "sale", "kind": "campaign", "phase": "almost", "time": 1.0}',
            encode_event(announcement("begins", time.time(), name="")),
            click("a"),
        )
        eventually("it is active", lambda: shown() == 1)
        eventually("the click is routed", lambda: ingest.feedback() == ["a"])
        letters = eventually("two letters", lambda: ingest.letters() if len(ingest.letters()) == 2 else None)
        assert sorted(letter.reason for letter in letters) == ["bad_announcement", "bad_shape"]
        ingest.send(encode_event(announcement("ends", time.time())))
        eventually("it is over", lambda: shown() == 0)
