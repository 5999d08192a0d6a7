"""Metrics of commits, snapshots and recoveries."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from streaming.monitoring.metrics.buckets import FAST

KERNELS_PUBLISHED = Counter("driftline_kernels_published_total", "Kernels committed to the kernel log.", ["group"])
COMMIT_SECONDS = Histogram("driftline_commit_seconds", "Time of one transaction, seconds.", ["group"], buckets=FAST)
COMMIT_BYTES = Counter(
    "driftline_commit_bytes_total",
    "Bytes of keys and values in committed transactions, by content: kernel, snapshot, kept, rows, decisions, status.",
    ["group", "what"],
)
COMMITS_FAILED = Counter(
    "driftline_commits_failed_total",
    "Transactions that failed, by reason: fenced (another processor owns the group now), failed.",
    ["group", "reason"],
)
SNAPSHOTS_REFUSED = Counter(
    "driftline_snapshots_refused_total", "Learner snapshots and marks that could not be read at take-over.", ["group"]
)
PROCESSOR_LAG = Gauge("driftline_processor_lag_records", "Records of `traffic` not yet processed.", ["group"])
OWNED_GROUPS = Gauge("driftline_owned_groups", "Kernel groups this processor owns.")
RECOVERY_SECONDS = Gauge("driftline_recovery_seconds", "Time the last recovery of the group took, seconds.", ["group"])
