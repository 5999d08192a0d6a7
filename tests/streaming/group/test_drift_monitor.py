"""Drift in the machine: inputs of the monitor, its output in the committed state, and kills that change nothing."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from model.drift.config import DriftConfig
from model.drift.monitor import DriftMonitor
from model.drift.signs import LabelHealth
from model.drift.verdict import Alarm, Verdict, VerdictKind
from model.encoding.domain import Domain, DomainSpace
from model.gate.config import GateConfig
from model.gate.scored_examples import Doubles, ScoredExamples
from streaming.config import JoinConfig, ProcessorConfig
from streaming.events import Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.events.decisions import encode_decision
from streaming.events.status import decode_status, encode_status
from streaming.group.drift_monitor import GroupDriftMonitor
from streaming.group.machine import GroupMachine
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from streaming.processor.group_metrics import GroupMetrics
from streaming.processor.status import ShownStrata
from tests.streaming.group import test_gate
from tests.streaming.group.tiny import BACKBONE, GATE, JOIN, SPACE, appended, encoded, machine, traffic

RECORDS = traffic(120)
SHOWN = ShownStrata(SPACE, SPACE.domains())


class Recorder(DriftMonitor):
    """A monitor that records its inputs and returns given outputs."""

    def __init__(self, of: DriftMonitor) -> None:
        self.__dict__.update(of.__dict__)
        self.served_items: list[int] = []
        self.batches: list[tuple[ScoredExamples, Doubles, Doubles]] = []
        self.healths: list[LabelHealth] = []
        self.says: list[Verdict | Alarm] = []

    def served(self, frozen: Any, live: Any, x: Any, domain: Any, time: float) -> None:
        assert len(frozen) == len(live) == len(x)
        self.served_items.append(len(frozen))

    def learned(self, scored: ScoredExamples, weight: Doubles, candidate: Doubles, time: float) -> None:
        self.batches.append((scored, weight, candidate))

    def judge(self, health: LabelHealth, time: float) -> list[Verdict | Alarm]:
        self.healths.append(health)
        said, self.says = self.says, []
        return said

    def state(self) -> dict[str, Any]:
        return {"batches": len(self.batches)}

    def load(self, state: Mapping[str, Any]) -> None:
        assert state["batches"] > 0


def watched(gate: GateConfig = GATE, join: JoinConfig = JOIN) -> tuple[GroupMachine, Recorder]:
    fed = machine(gate=gate, join=join)
    recorder = Recorder(fed.drift.monitor)
    fed.drift.monitor = recorder
    return fed, recorder


def feed(fed: GroupMachine, records: list[Traffic], first: int = 0) -> None:
    for offset, value in enumerate(encoded(records), first):
        fed.feed(offset, value, appended(value))


def items_of(records: list[Traffic]) -> list[int]:
    return [len(record.items) for record in records if isinstance(record, ServedImpression)]


def test_the_monitor_gets_every_impression_once_and_every_example_once_with_its_label() -> None:
    fed, recorder = watched()
    again = [record for record in RECORDS if isinstance(record, ServedImpression)][:5]
    feed(fed, [*RECORDS, *again])
    fed.drift.state(fed.dropped)  # a snapshot holds those that waited to be seen together
    assert sum(recorder.served_items) == sum(items_of(RECORDS))
    labels = np.concatenate([scored.label for scored, *_ in recorder.batches])
    assert len(labels) == sum(items_of(RECORDS)) == fed.publisher.examples
    assert labels.sum() == sum(isinstance(record, ServedFeedback) for record in RECORDS)
    assert all(np.isfinite(candidate).all() for _, _, candidate in recorder.batches)


def test_the_monitor_gets_quarantined_examples_with_weights_and_without_a_candidate() -> None:
    fed, recorder = watched(test_gate.GATE)
    for offset, value in enumerate(test_gate.stream("turned")):
        fed.feed(offset, value, appended(value))
    left = sum(int(np.isnan(candidate).sum()) for _, _, candidate in recorder.batches)
    assert left == fed.guarded.gate.set_aside > 0
    assert all((weight > 0).all() for _, weight, _ in recorder.batches)


def test_a_verdict_change_is_a_decision_with_old_and_new_verdict_reason_and_advice() -> None:
    fed, recorder = watched()
    feed(fed, RECORDS[:200])
    fed.take_decisions()
    recorder.says = [
        Verdict(
            "period=night", VerdictKind.HANDLED, 1_010.0, {"excess": 0.1, "odds": float("nan")}, "Drifts.", "Wait."
        ),
        Alarm("adwin", "residual", "group", 1_011.0, 4.0, 3.0),
    ]
    feed(fed, RECORDS[200:], 200)
    verdict, alarm = (json.loads(encode_decision(one)) for one in fed.take_decisions())
    assert (verdict["kind"], verdict["by"], verdict["group"]) == ("verdict", "monitor", "main")
    assert verdict["detail"] == {
        "stratum": "period=night",
        "from": "too_little_data",
        "to": "drifting_handled",
        "since": 1_010.0,
        "words": "Drifts.",
        "advice": "Wait.",
        "evidence": {"excess": 0.1, "odds": None},
    }
    assert (alarm["kind"], alarm["time"], alarm["detail"]["detector"]) == ("alarm", 1_011.0, "adwin")


def test_missing_labels_are_judged_although_no_micro_batch_fills() -> None:
    fed, recorder = watched(join=JOIN.model_copy(update={"progress_timeout_s": 5.0}))
    feed(fed, [record for record in RECORDS if not isinstance(record, Progress | Tick)])
    assert fed.publisher.examples == 0
    assert recorder.healths[-1].paused
    assert len(recorder.healths) > 3


def test_late_feedback_shows_in_the_health_of_the_labels() -> None:
    fed, recorder = watched()
    end = RECORDS[-1].time if isinstance(RECORDS[-1], Tick) else 0.0
    late = [
        ServedFeedback(record.request_id, record.items[0], record.time + 100.0)
        for record in RECORDS
        if isinstance(record, ServedImpression)
    ]
    feed(fed, RECORDS)
    assert recorder.healths[-1].late_share == 0.0
    feed(fed, [*late, Tick(end + 180), Tick(end + 240)], len(RECORDS))
    assert recorder.healths[-1].late_share > 0.3
    assert recorder.healths[-1].delay_s > JOIN.window_s


def test_a_kill_does_not_change_the_label_health_given_to_the_monitor() -> None:
    undisturbed, whole = watched()
    feed(undisturbed, RECORDS)
    for killed_at in (150, 260, 333):
        fed, _ = watched()
        feed(fed, RECORDS[:killed_at])
        stored = decode_snapshot(encode_snapshot(fed.snapshot()), group="main", fingerprint=BACKBONE.fingerprint)
        closed = fed.take_closed()
        del closed
        successor, recorder = watched()
        successor.restore(stored, fed.rows.live.rows(), {})
        feed(successor, RECORDS[stored.resume_offset :], stored.resume_offset)
        count = len(recorder.healths)
        for mine, theirs in zip(recorder.healths, whole.healths[-count:], strict=True):
            assert msgspec.json.encode(_plain(mine)) == msgspec.json.encode(_plain(theirs))


def test_a_kill_between_impressions_leaves_the_monitor_bit_identical() -> None:
    records = traffic(600)
    whole, cut = machine(), machine()
    feed(whole, records)
    for begin in range(0, len(records), 97):
        feed(cut, records[begin : begin + 97], begin)
        state = cut.drift.state(cut.dropped)
        cut.drift = GroupDriftMonitor("main", cut.guarded.gate, SPACE, DriftConfig(), None)
        cut.drift.load(msgspec.msgpack.decode(msgspec.msgpack.encode(state)))
    assert whole.drift.monitor.signals()[0].served > 512, "less than what is looked at together shows nothing"
    kept = [msgspec.msgpack.encode(one.drift.state(one.dropped)["monitor"]) for one in (whole, cut)]
    assert kept[0] == kept[1]


def _plain(health: LabelHealth) -> dict[str, Any]:
    return {**health.__dict__, "aside": health.aside.tolist()}


def test_the_monitor_state_is_in_the_snapshot_and_a_snapshot_without_it_starts_a_new_monitor() -> None:
    fed = machine()
    feed(fed, RECORDS)
    snapshot = decode_snapshot(encode_snapshot(fed.snapshot()), group="main", fingerprint=BACKBONE.fingerprint)
    successor = machine()
    successor.restore(snapshot, fed.rows.live.rows(), {})
    assert successor.drift.verdicts == fed.drift.verdicts
    state = successor.drift.state(successor.dropped)
    assert msgspec.msgpack.encode(state) == msgspec.msgpack.encode(snapshot.drift)
    older = machine()
    older.restore(msgspec.structs.replace(snapshot, drift={}), fed.rows.live.rows(), {})
    assert older.drift.verdicts == machine().drift.verdicts


def test_a_failing_monitor_restarts_with_a_log_line_and_learning_continues() -> None:
    fed, recorder = watched()
    recorder.learned = None  # type: ignore[assignment]
    feed(fed, RECORDS)
    assert fed.publisher.examples == sum(items_of(RECORDS))
    assert fed.drift.failures == 1
    assert fed.drift.monitor is not recorder
    assert "failed" in fed.drift.verdicts[0].words


def test_status_and_metrics_report_the_same_values_for_each_domain() -> None:
    fed = machine("looked-at")
    observed = GroupMetrics("looked-at", SPACE, SHOWN)
    fresh = observed.status(fed, 0.0)
    assert fresh.domains[0].verdict == "too_little_data" and fresh.newest_event_time is None
    for offset, value in enumerate(encoded(RECORDS)):
        for one in fed.feed(offset, value, appended(value)):
            observed.learned(one, 0.001)
    status = decode_status(encode_status(observed.status(fed, 12.0)))
    assert (status.group, status.wall, status.examples) == ("looked-at", 12.0, fed.publisher.examples)
    assert status.time == fed.join.watermark and status.kernel_version == fed.publisher.version
    assert {"group", "period=day", "period=night"} <= {domain.stratum for domain in status.domains}
    for domain in status.domains:
        labels = {"group": "looked-at", "stratum": domain.stratum, "verdict": domain.verdict}
        assert REGISTRY.get_sample_value("driftline_verdict", labels) == 1
        kinds = [labels | {"verdict": kind.value} for kind in VerdictKind]
        assert sum(REGISTRY.get_sample_value("driftline_verdict", kind) or 0 for kind in kinds) == 1
        assert domain.words and domain.advice
    assert status.domains[0].arms["frozen"].request_auc is not None


def test_a_group_shows_only_its_own_domains_and_those_with_traffic() -> None:
    space = DomainSpace({"scene": ["home", "search"], "period": ["day", "night"]})
    home = ShownStrata(space, [domain for domain in space.domains() if domain.scene == "home"])
    signals = {one.stratum: one for one in machine().drift.monitor.signals()}
    one = signals["group"]
    names = ["group", "scene=unknown", "scene=home", "scene=search", "region=unknown", "period=day"]
    assert [name for name in names if _named(one, name) in home] == ["group", "scene=home", "period=day"]
    assert _named(one, "scene=search", served=3) in home
    assert _named(one, "scene=unknown", served=3) in home


def _named(signals: Any, stratum: str, served: int = 0) -> Any:
    return dataclasses.replace(signals, stratum=stratum, served=served)


@pytest.mark.parametrize("seconds", [0, -1, "soon"])
def test_an_invalid_status_interval_is_refused(seconds: object) -> None:
    with pytest.raises(ValidationError, match="status_seconds"):
        ProcessorConfig(status_seconds=seconds)


def test_an_invalid_drift_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="false_alarm_examples"):
        DriftConfig(false_alarm_examples=0)


def test_the_domains_of_these_tests_have_traffic() -> None:
    assert {record.domain for record in RECORDS if isinstance(record, ServedImpression)} == {
        Domain("home", "unknown", "day"),
        Domain("home", "unknown", "night"),
    }


@pytest.mark.parametrize(
    ("kind", "level"),
    [(VerdictKind.STABLE, "INFO"), (VerdictKind.TOO_LITTLE, "INFO"), (VerdictKind.HANDLED, "WARNING")],
)
def test_a_verdict_that_all_is_well_is_no_warning(
    kind: VerdictKind, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    verdict = machine("levels").drift.verdicts[0]
    machine("levels").drift._decision(dataclasses.replace(verdict, kind=kind), 1.0)
    (record,) = [record for record in caplog.records if "group levels: group" in record.getMessage()]
    assert record.levelname == level
