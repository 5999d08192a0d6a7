"""Announced drift through ingest, on the real broker: taken, shown, kept over a restart, refused when malformed."""

from __future__ import annotations

import time

import pytest
from prometheus_client import REGISTRY

from streaming.config import Config
from streaming.drift import DriftBoard
from streaming.events import DriftEvent, DriftPhase, encode_event
from streaming.ingest.announced import Announced
from streaming.monitoring import metrics
from tests.streaming.ingest.test_service import click, eventually, running


def shown(name: str, kind: str = "campaign") -> float | None:
    return REGISTRY.get_sample_value("driftline_drift_announced", {"name": name, "kind": kind})


def said(name: str, phase: DriftPhase, time_: float | None = None) -> DriftEvent:
    return DriftEvent(name, "campaign", phase, time.time() if time_ is None else time_)


def test_it_is_shown_from_begin_to_end_over_a_restart_and_malformed_ones_are_dead_letters(
    stream_config: Config,
) -> None:
    config = stream_config
    with running(config) as first:
        first.send(
            encode_event(said("sale", "begins")),
            b'{"event": "drift", "name": "sale", "kind": "campaign", "phase": "almost", "time": 1.0}',
            encode_event(said("", "begins")),
            click("a"),
        )
        eventually("it is at work", lambda: shown("sale") == 1)
        eventually("the click is routed", lambda: first.feedback() == ["a"])
        letters = eventually("two letters", lambda: first.letters() if len(first.letters()) == 2 else None)
        assert sorted(letter.reason for letter in letters) == ["bad_announcement", "bad_shape"]
        eventually("all committed", lambda: first.committed() == 4)
        first.send(click("b"))  # commits again, and must not lose what stands beside the offset
        eventually("the next is committed", lambda: first.committed() == 5)
    metrics.DRIFT_ANNOUNCED.clear()
    with running(config) as second:
        eventually("another member knows it", lambda: shown("sale") == 1)
        second.send(encode_event(said("sale", "ends")))
        eventually("it is over", lambda: shown("sale") == 0)
        assert len(second.letters()) == 2


def test_a_member_shows_the_partitions_it_owns_and_no_others() -> None:
    announced = Announced(keep_s=60.0)
    stored = {0: "", 1: DriftBoard().packed()}
    board = DriftBoard()
    board.take(said("theirs", "begins", 1_000.0))
    stored[1] = board.packed()
    announced.own({0}, stored.__getitem__)
    announced.take(0, said("ours", "begins", 1_000.0))
    announced.show(1_001.0)
    assert (shown("ours"), shown("theirs")) == (1, None)
    stored[0] = announced.metadata(0)
    announced.own({1}, stored.__getitem__)
    announced.show(1_001.0)
    assert (shown("ours"), shown("theirs")) == (None, 1)
    announced.own({0, 1}, stored.__getitem__)
    announced.show(1_001.0)
    assert (shown("ours"), shown("theirs")) == (1, 1)
    announced.show(1_061.0)
    assert (shown("ours"), shown("theirs")) == (0, 0)
    announced.own((), stored.__getitem__)
    announced.show(1_061.0)
    assert (shown("ours"), shown("theirs")) == (None, None)


def test_metadata_that_others_wrote_is_said_and_counts_as_nothing(caplog: pytest.LogCaptureFixture) -> None:
    announced = Announced(keep_s=60.0)
    announced.own({3}, lambda _: "reset by hand")
    assert "partition 3" in caplog.text
    assert announced.metadata(3) == ""


def test_a_record_of_a_partition_that_went_meanwhile_is_left_to_its_owner() -> None:
    announced = Announced(keep_s=60.0)
    announced.take(7, said("late", "begins"))
    assert announced.metadata(7) == ""
