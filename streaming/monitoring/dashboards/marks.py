"""Marks and spans that every panel of a dashboard shows."""

from __future__ import annotations

from streaming.monitoring.dashboards.panels import Annotation

ANNOUNCED = Annotation(
    "Announced drift", "#B877D9", "max by (name, kind) (driftline_drift_announced) == 1", "announced: {{name}}", "5s"
)
"""Drift that somebody announced."""

VERDICTS = Annotation(
    "Verdicts",
    "#E02F44",
    'max by (group, stratum, verdict) (driftline_verdict{verdict!~"stable|too_little_data",group=~"$group"}) == 1',
    "{{stratum}}: {{verdict}}",
    "10s",
)
"""Spans in which a stratum is not stable."""

KERNELS = Annotation(
    "Kernel versions",
    "#3274D9",
    'count_values by (group) ("version", max by (group) (driftline_kernel_version{group=~"$group"}) > 0)',
    "kernel {{version}} of {{group}}",
    "60s",
)
"""Kernel versions in use, once a minute, as a label that a title can show."""

DECISIONS = Annotation(
    "Undone, rolled back, pinned, frozen",
    "#FF780A",
    "sum by (group, kind) "
    '(increase(driftline_gate_decisions_total{kind=~"undone|rolled_back",group=~"$group"}[1m])) > 0 '
    'or max by (group) (driftline_kernel_pinned{group=~"$group"}) > 0 '
    'or max by (group) (driftline_kernel_frozen{group=~"$group"}) > 0',
    "{{group}}: {{kind}}",
    "10s",
)
"""Actions of the gate or an operator on what is served."""
