"""Metrics of the scorer: requests, kernels in use, impressions, and HTTP access."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from streaming.monitoring.metrics.buckets import FAST, SECONDS

SCORE_REQUESTS = Counter(
    "driftline_score_requests_total",
    "Scoring requests, by outcome: ok, refused (the caller's fault), aborted (the caller disconnected before the body "
    "was complete), not_ready (the scorer was starting or stopping), failed.",
    ["outcome"],
)
SCORE_SECONDS = Histogram(
    "driftline_score_seconds", "Time of one scoring request inside the scorer, seconds.", buckets=FAST
)
SCORE_CANDIDATES = Histogram(
    "driftline_score_candidates",
    "Candidates of one request.",
    buckets=(1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
)
EXPLORED_REQUESTS = Counter(
    "driftline_explored_requests_total",
    "Scoring requests whose first place was drawn (scorer.explore_share), by what was drawn: best (the item that its "
    "score would have put there) or other.",
    ["group", "drawn"],
)
SCORE_MEAN = Gauge("driftline_score_mean", "Mean score over the last thousand scored items.", ["group", "arm"])
SCORE_SHIFT = Gauge(
    "driftline_score_shift",
    "Population stability index of recent scores against the first ones.",
    ["group", "arm"],
)
KERNEL_VERSION = Gauge(
    "driftline_kernel_version", "Version of the kernel that is served; 0 is the frozen arm.", ["group"]
)
KERNEL_PINNED = Gauge("driftline_kernel_pinned", "Version that an operator pinned; 0 is none.", ["group"])
KERNEL_FROZEN = Gauge("driftline_kernel_frozen", "1 while an operator has the frozen arm served.", ["group"])
KERNELS_TAKEN = Counter("driftline_kernels_taken_total", "Kernels taken into use.", ["group"])
KERNELS_REFUSED = Counter(
    "driftline_kernels_refused_total",
    "Kernels refused, by reason (docs/failures.md has the cures).",
    ["group", "reason"],
)
FRESHNESS_SECONDS = Histogram(
    "driftline_freshness_seconds",
    "Time from the event time of a kernel's newest example to the kernel's use, seconds.",
    ["group"],
    buckets=SECONDS,
)
IMPRESSIONS_LOST = Counter(
    "driftline_impressions_lost_total",
    "Served impressions that could not be logged, by reason: buffer_full, too_large, delivery_failed, shutdown.",
    ["reason"],
)

HTTP_CALLS = Counter(
    "driftline_http_calls_total",
    "HTTP calls, by the name of their key ((none): no keys are set, (unknown): no known key was sent) and outcome: "
    "allowed, refused (no known key), forbidden (the key may not do that), limited (too many).",
    ["key", "outcome"],
)
CONNECTIONS = Gauge("driftline_connections", "Connections to the scorer's HTTP port.")
CONNECTIONS_DROPPED = Counter(
    "driftline_connections_dropped_total",
    "HTTP connections that the scorer closed, by reason: too_slow (a request not complete, or an answer not read, "
    "within access.request_timeout_s), too_many (access.max_connections), head_too_large, no_http.",
    ["reason"],
)
