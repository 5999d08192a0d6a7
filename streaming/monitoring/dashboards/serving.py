"""The serving dashboard: latency, outcomes, access, features, and kernel versions of the scorers."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from streaming.monitoring.dashboards import marks
from streaming.monitoring.dashboards.panels import PanelRow, Query, dashboard, line, number


def serving() -> Dashboard:
    """Requests, access and kernels of the scorers."""
    return dashboard(
        "driftline-serving",
        "Driftline: serving",
        "Latency, outcomes, access, features and kernels of the scorers.",
        [PanelRow("", _numbers()), _requests(), _features(), _access(), _kernels()],
        [marks.ANNOUNCED, marks.DECISIONS],
    )


def _numbers() -> list[Builder[Panel]]:
    return [
        number(
            "Scorers that answer",
            "Scorers that Prometheus can scrape.",
            "none",
            Query('sum(up{job="scorer"})'),
            width=6,
        ),
        number(
            "Requests per second",
            "Successful scoring requests, mean of the last five minutes, and impressions of other systems.",
            "reqps",
            Query("driftline:requests_shown:rate5m"),
            width=6,
        ),
        number(
            "Scoring p99",
            "Time of one scoring request inside the scorer, last minute.",
            "s",
            Query("driftline:score_seconds:p99"),
            width=6,
        ),
        number(
            "Failed, last hour",
            "Requests that failed by a fault of the scorer.",
            "none",
            Query('sum(increase(driftline_score_requests_total{outcome="failed"}[1h])) or vector(0)'),
            width=6,
            bad_above=1,
        ),
    ]


def _requests() -> PanelRow:
    quantile = "histogram_quantile({}, sum by (le) (rate(driftline_score_candidates_bucket[1m])))"
    return PanelRow(
        "Requests",
        [
            line(
                "Scoring time",
                "Time of one scoring request inside the scorer.",
                "s",
                Query("driftline:score_seconds:p50", "p50"),
                Query("driftline:score_seconds:p99", "p99"),
            ),
            line(
                "Requests by outcome",
                "Scoring requests per second. Refused and aborted ones are their callers' fault. In explored ones the "
                "first place was drawn.",
                "reqps",
                Query("sum by (outcome) (rate(driftline_score_requests_total[1m]))", "{{outcome}}"),
                Query("sum by (drawn) (rate(driftline_explored_requests_total[1m]))", "explored: {{drawn}} drawn"),
            ),
            line(
                "Candidates per request",
                "Median and 99th percentile.",
                "none",
                Query(quantile.format("0.5"), "p50"),
                Query(quantile.format("0.99"), "p99"),
            ),
        ],
    )


def _features() -> PanelRow:
    return PanelRow(
        "Features",
        [
            line(
                "Found in the feature store",
                "Share of the rows that were read and found, by view. Profiles that a scorer has cached are not read.",
                "percentunit",
                Query("driftline:feature_found_ratio:rate10m", "{{view}}"),
            ),
            line(
                "Fields with a value",
                "Share of the profiles that were read in which a field has a value.",
                "percentunit",
                Query("driftline:feature_filled_ratio:rate10m", "{{view}} {{field}}"),
            ),
            line(
                "Served by defaults",
                "Entities or values per second replaced by defaults: missing, too old, not declared, or outside the "
                "vocabulary.",
                "ops",
                Query("sum by (view, reason) (rate(driftline_feature_defaults_total[1m]))", "{{view}} {{reason}}"),
            ),
        ],
    )


def _access() -> PanelRow:
    return PanelRow(
        "Access",
        [
            line(
                "Calls by key",
                "Calls per second, by name of their key and whether they were admitted.",
                "reqps",
                Query("sum by (key, outcome) (rate(driftline_http_calls_total[1m]))", "{{key}} {{outcome}}"),
            ),
            line(
                "Connections",
                "Connections held.",
                "none",
                Query("sum(driftline_connections)", "held"),
            ),
            line(
                "Connections closed",
                "Per second, because they kept the scorer waiting.",
                "ops",
                Query("sum by (reason) (rate(driftline_connections_dropped_total[1m]))", "{{reason}}"),
            ),
        ],
    )


def _kernels() -> PanelRow:
    return PanelRow(
        "Kernels",
        [
            line(
                "Kernel version by scorer",
                "One line per scorer; a scorer whose line stays behind does not follow the kernel log.",
                "none",
                Query('driftline_kernel_version{group=~"$group"}', "{{group}} {{instance}}"),
                width=12,
            ),
            line(
                "Freshness by scorer, p50",
                "From the event time of a kernel's newest example to the kernel's use in this scorer.",
                "s",
                Query(
                    "histogram_quantile(0.5, sum by (group, instance, le) "
                    '(rate(driftline_freshness_seconds_bucket{group=~"$group"}[1m])))',
                    "{{group}} {{instance}}",
                ),
                width=12,
            ),
        ],
    )
