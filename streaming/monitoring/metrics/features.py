"""Metrics of the feature store: pushes of live rows, what reads found, and values served by defaults."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from streaming.monitoring.metrics.buckets import FAST

FEATURE_PUSH_SECONDS = Histogram(
    "driftline_feature_push_seconds", "Time of one push of live features, seconds.", buckets=FAST
)
FEATURE_PUSH_FAILED = Counter("driftline_feature_push_failed_total", "Pushes of live features that failed.")
FEATURE_ROWS_LOST = Counter(
    "driftline_feature_rows_lost_total",
    "Times that the feature store had lost the live rows of a group; the processor then pushed all of them again.",
    ["group"],
)
FEATURE_DEFAULTS = Counter(
    "driftline_feature_defaults_total",
    "Entities or values served by defaults, by view and reason: missing, stale, undeclared, bad_value, unknown_value, "
    "cut_value.",
    ["view", "reason"],
)
FEATURE_FOUND = Counter(
    "driftline_feature_found_total",
    "Entities read from the feature store and found, by view; a profile that a scorer has cached is not read.",
    ["view"],
)
FEATURE_FILLED = Counter(
    "driftline_feature_filled_total",
    "Profiles read from the feature store in which a declared field has a value, by view and field.",
    ["view", "field"],
)
