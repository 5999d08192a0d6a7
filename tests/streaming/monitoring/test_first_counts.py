"""The first count of a labelled counter is an increase for Prometheus, so an alert on it can fire the first time."""

from __future__ import annotations

import re
from typing import get_args

from prometheus_client import REGISTRY

from model.encoding.domain import DomainSpace
from model.gate.decision import Decided
from streaming.config import Config
from streaming.events.dead_letter import REASONS
from streaming.ingest.dead_letter_writer import DeadLetterWriter
from streaming.monitoring import metrics
from streaming.processor.group_metrics import GroupMetrics
from streaming.processor.status import ShownStrata
from streaming.scorer import app
from tests.streaming.monitoring.declared import declared
from tests.streaming.monitoring.prometheus_server import ROOT, alerts

SPACE = DomainSpace({"scene": ["home"], "region": [], "period": []})
STEADY = {
    "driftline_clock_corrected_total": "a tenth of the events, for minutes",
    "driftline_events_ingested_total": "the number that others are compared with",
    "driftline_feature_defaults_total": "a share of the rows, for minutes",
    "driftline_feature_found_total": "a share of the rows, for minutes",
    "driftline_score_seconds_bucket": "the time of most requests",
}
"""Counters of which an alert needs many counts over minutes: the first one may be unseen."""


def counted(alert: str) -> set[str]:
    """Counters with labels of their own whose increase the alert asks for."""
    found = set(re.findall(r"(?:rate|increase)\((driftline_\w+)", alerts()[alert]))
    return {name for name in found if declared()[name] - {"group", "le"}} - STEADY.keys()


def at_zero() -> set[tuple[str, frozenset[str]]]:
    """Names and label values of all series of ours."""
    return {
        (sample.name, frozenset(sample.labels.values()))
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("driftline_")
    }


def test_an_alert_sees_the_first_count_of_each_reason() -> None:
    assert app.__name__  # its outcomes begin at zero when it is imported
    GroupMetrics("first", SPACE, ShownStrata(SPACE, []))
    DeadLetterWriter(Config())
    series = at_zero()
    unseen = []
    for alert, expr in alerts().items():
        for name in counted(alert):
            values = set(re.findall(rf'{name}\{{\w+="(\w+)"', expr))
            from_zero = any(known == name and values <= labels for known, labels in series)
            if not from_zero and f"{name} unless {name} offset" not in expr:
                unseen.append(f"{alert}: {name}")
    assert not unseen, "let their owners start these at zero"


def test_every_reason_and_kind_of_a_group_begins_at_zero() -> None:
    GroupMetrics("of-a-group", SPACE, ShownStrata(SPACE, []))
    for reason in metrics.join.DROP_REASONS:
        labels = {"group": "of-a-group", "reason": reason}
        assert REGISTRY.get_sample_value("driftline_join_dropped_total", labels) == 0
    for kind in get_args(Decided):
        labels = {"group": "of-a-group", "kind": kind}
        assert REGISTRY.get_sample_value("driftline_gate_decisions_total", labels) == 0


def test_every_reason_of_a_dead_letter_begins_at_zero() -> None:
    DeadLetterWriter(Config())
    for reason in REASONS:
        assert REGISTRY.get_sample_value("driftline_dead_letters_total", {"reason": reason}) is not None


def test_the_reasons_that_begin_at_zero_are_those_of_the_code() -> None:
    folders = [ROOT / "streaming" / name for name in ("join", "group", "processor")]
    code = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py"))
    counted_reasons = set(re.findall(r'dropped\["(\w+)"\] \+=', code)) | set(
        re.findall(r'JOIN_DROPPED\.labels\(group, "(\w+)"', code)
    )
    assert counted_reasons <= set(metrics.join.DROP_REASONS)
