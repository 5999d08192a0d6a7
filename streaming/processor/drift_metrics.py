"""Prometheus metrics of a group's drift: verdicts, arms and inputs by domain."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from model.drift.signs import Signals
from model.drift.verdict import VerdictKind
from model.gate.decision import Decided
from streaming.events.decisions import Decision
from streaming.group.decisions import GATE
from streaming.group.drift_monitor import ALARM, VERDICT
from streaming.monitoring import metrics
from streaming.processor.status import DriftView


def count_decision(made: Decision) -> None:
    """Counts decisions of gate and monitor; other deciders count their own."""
    if made.by == GATE:
        metrics.learner.GATE_DECISIONS.labels(made.group, made.kind).inc()
    elif made.kind == VERDICT:
        metrics.drift.VERDICT_CHANGES.labels(made.group, made.detail["stratum"], made.detail["to"]).inc()
    elif made.kind == ALARM:
        where = (made.detail[name] for name in ("stratum", "detector", "signal"))
        metrics.drift.DRIFT_ALARMS.labels(made.group, *where).inc()


class DriftMetrics:
    """Updates the metrics of one group's domains."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._exported: Counter[str] = Counter()
        self._failures = 0
        for kind in get_args(Decided):  # at zero, so that Prometheus sees the first one as an increase
            metrics.learner.GATE_DECISIONS.labels(group, kind)

    def export(self, look: DriftView) -> None:
        """Sets every metric; unknown values become NaN, as Prometheus represents them."""
        for signals, verdict in look.domains:
            for kind in VerdictKind:
                metrics.drift.VERDICT.labels(self._group, verdict.stratum, kind.value).set(kind is verdict.kind)
            self._export_domain(signals)
        for source in ("pretraining", "first_examples"):
            metrics.drift.DRIFT_REFERENCE.labels(self._group, source).set(source == look.reference)
        metrics.every_process.TASK_FAILURES.labels("drift-monitor").inc(max(0, look.failures - self._failures))
        self._failures = look.failures
        metrics.drift.MONITOR_REFUSED.labels(self._group).inc(self._new("refused", look.refused))

    def _export_domain(self, signals: Signals) -> None:
        labels = (self._group, signals.stratum)
        metrics.drift.DOMAIN_EXAMPLES.labels(*labels).inc(self._new(signals.stratum, signals.examples))
        metrics.drift.DOMAIN_LABEL_RATE.labels(*labels).set(signals.label_rate)
        for arm, signs in signals.arms.items():
            metrics.drift.DOMAIN_ARM_LOG_LOSS.labels(*labels, arm).set(signs.log_loss)
            metrics.drift.DOMAIN_ARM_AUC.labels(*labels, arm).set(signs.auc)
            metrics.drift.DOMAIN_ARM_CALIBRATION.labels(*labels, arm).set(signs.calibration)
        metrics.drift.DOMAIN_EXPECTED_LOG_LOSS.labels(*labels).set(signals.expected_log_loss)
        metrics.drift.DOMAIN_EXPECTED_AUC.labels(*labels).set(signals.expected_auc)
        metrics.drift.DOMAIN_EXPECTED_ERROR.labels(*labels).set(signals.expected_error)
        for input_name, distances in signals.inputs.items():
            for distance, value in distances.items():
                metrics.drift.INPUT_DISTANCE.labels(*labels, input_name, distance).set(value)

    def _new(self, name: str, count: int) -> int:
        """The increase since the last look. After a restore the first value is the base, because it was counted
        before."""
        before = self._exported.get(name, count)
        self._exported[name] = count
        return max(0, count - before)
