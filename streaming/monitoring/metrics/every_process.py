"""Metrics that every process sets."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CLOCK_OFFSET = Gauge(
    "driftline_clock_offset_seconds",
    "The broker's clock minus this machine's, estimated from acknowledgements, seconds.",
)
TASK_FAILURES = Counter("driftline_task_failures_total", "Background tasks that died, by task.", ["task"])
