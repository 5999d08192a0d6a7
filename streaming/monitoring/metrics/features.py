"""Metrics of the feature store: pushes of live rows, and values served by defaults."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from streaming.monitoring.metrics.buckets import FAST

FEATURE_PUSH_SECONDS = Histogram(
    "driftline_feature_push_seconds", "Time of one push of live features, seconds.", buckets=FAST
)
FEATURE_PUSH_FAILED = Counter("driftline_feature_push_failed_total", "Pushes of live features that failed.")
FEATURE_DEFAULTS = Counter(
    "driftline_feature_defaults_total",
    "Entities or values served by defaults, by view and reason: missing, stale, undeclared, bad_value, unknown_value, "
    "cut_value.",
    ["view", "reason"],
)
