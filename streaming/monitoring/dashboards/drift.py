"""The drift dashboard: arms, expected performance, inputs, labels, and detectors, by domain."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from streaming.monitoring.dashboards import marks
from streaming.monitoring.dashboards.panels import PanelRow, Query, dashboard, line, switch_timeline, verdict_timeline

_BY = 'group=~"$group",stratum=~"$stratum"'


def drift() -> Dashboard:
    """The evidence behind each verdict."""
    return dashboard(
        "driftline-drift",
        "Driftline: drift",
        "The evidence behind each verdict, by domain.",
        [_verdicts(), _before_labels(), _inputs(), _labels(), _detectors(), _monitor()],
        [marks.ANNOUNCED, marks.VERDICTS],
        by_stratum=True,
    )


def _verdicts() -> PanelRow:
    return PanelRow(
        "",
        [
            verdict_timeline(
                "Verdicts by domain",
                "One bar per domain: group is the whole.",
                Query(f"driftline:verdict_code{{{_BY}}}", "{{group}} {{stratum}}"),
                height=8,
            ),
            line(
                "Log loss by domain and arm",
                "Of the recent examples, scored before learning. If frozen rises, interest drifts. If live rises with "
                "it, the kernel does not follow.",
                "none",
                Query(
                    f"max by (group, stratum, arm) (driftline_domain_arm_log_loss{{{_BY}}})",
                    "{{group}} {{stratum}} {{arm}}",
                ),
            ),
            line(
                "AUC by domain and arm",
                "Of the recent examples, scored before learning.",
                "none",
                Query(
                    f"max by (group, stratum, arm) (driftline_domain_arm_auc{{{_BY}}})", "{{group}} {{stratum}} {{arm}}"
                ),
            ),
            line(
                "Calibration by domain and arm",
                "Mean score over mean label of the recent examples; 1 is calibrated.",
                "none",
                Query(
                    f"max by (group, stratum, arm) (driftline_domain_arm_calibration_ratio{{{_BY}}})",
                    "{{group}} {{stratum}} {{arm}}",
                ),
            ),
        ],
    )


def _before_labels() -> PanelRow:
    return PanelRow(
        "Before labels arrive",
        [
            line(
                "Expected log loss",
                "Log loss expected from the served scores, beside the one measured later for the live arm.",
                "none",
                Query(
                    f"max by (group, stratum) (driftline_domain_expected_log_loss{{{_BY}}})",
                    "{{group}} {{stratum}} expected",
                ),
                Query(
                    f'max by (group, stratum) (driftline_domain_arm_log_loss{{arm="live",{_BY}}})',
                    "{{group}} {{stratum}} live",
                ),
            ),
            line(
                "Expected AUC",
                "AUC expected from the served scores, beside the one measured later for the live arm.",
                "none",
                Query(
                    f"max by (group, stratum) (driftline_domain_expected_auc{{{_BY}}})",
                    "{{group}} {{stratum}} expected",
                ),
                Query(
                    f'max by (group, stratum) (driftline_domain_arm_auc{{arm="live",{_BY}}})',
                    "{{group}} {{stratum}} live",
                ),
            ),
            line(
                "Error of the expected log loss",
                "Distance of the expected log loss from the measured one, nats: how far to trust it.",
                "none",
                Query(
                    f"max by (group, stratum) (driftline_domain_expected_error_nats{{{_BY}}})", "{{group}} {{stratum}}"
                ),
            ),
        ],
    )


def _inputs() -> PanelRow:
    of_input = "{{group}} {{stratum}} {{what}}"
    distances = [
        ("psi", "Population stability index", "Above 0.25 is a large shift."),
        ("jensen_shannon", "Jensen-Shannon distance", "0 is the same, 1 is disjoint."),
        ("ks", "Kolmogorov-Smirnov distance", "The largest gap of the two distributions, 0 to 1."),
    ]
    panels = [
        line(
            f"Inputs: {title}",
            f"Of recent scores, features and projections against the reference. {note}",
            "none",
            Query(f'max by (group, stratum, what) (driftline_input_distance{{distance="{name}",{_BY}}})', of_input),
        )
        for name, title, note in distances
    ]
    panels += [
        line(
            "Mean score by arm",
            "Mean over the last thousand items that a scorer scored.",
            "percentunit",
            Query('avg by (group, arm) (driftline_score_mean{group=~"$group"})', "{{group}} {{arm}}"),
            width=12,
        ),
        line(
            "Shift of scores by arm",
            "Population stability index of a scorer's recent scores against its first ones. Above 0.25 is a large "
            "shift.",
            "none",
            Query('max by (group, arm) (driftline_score_shift{group=~"$group"})', "{{group}} {{arm}}"),
            width=12,
        ),
    ]
    return PanelRow("Inputs and scores", panels)


def _labels() -> PanelRow:
    quantile = "histogram_quantile({}, sum by (group, le) (rate(driftline_label_delay_seconds_bucket{}[5m])))"
    clicks = '{group=~"$group",kind="click"}'
    return PanelRow(
        "Labels",
        [
            line(
                "Share of clicks by domain",
                "Clicks per item of the recent labelled examples.",
                "percentunit",
                Query(f"max by (group, stratum) (driftline_domain_label_ratio{{{_BY}}})", "{{group}} {{stratum}}"),
                width=6,
            ),
            line(
                "Label delay",
                "From an impression to its click. A join window above the higher line misses one click in twenty.",
                "s",
                Query(quantile.format("0.5", clicks), "{{group}} p50"),
                Query(quantile.format("0.95", clicks), "{{group}} p95"),
                width=6,
            ),
            line(
                "Late clicks",
                "Clicks per second for closed requests, by outcome: relabelled before they were learned, corrected "
                "after.",
                "ops",
                Query(
                    'sum by (group, outcome) (rate(driftline_late_clicks_total{group=~"$group"}[1m]))',
                    "{{group}}, {{outcome}}",
                ),
                width=6,
            ),
            line(
                "Conversions",
                "Per second, by time of arrival: in the window of the labels, or later, within their own window.",
                "ops",
                Query(
                    'sum by (group, when) (rate(driftline_conversions_total{group=~"$group"}[1m]))',
                    "{{group}}, {{when}}",
                ),
                width=6,
            ),
        ],
    )


def _detectors() -> PanelRow:
    return PanelRow(
        "Detectors",
        [
            line(
                "Alarms of single detectors",
                "In five minutes, by detector and its signal. One alarm is no verdict.",
                "none",
                Query(
                    f"sum by (stratum, detector, signal) (increase(driftline_drift_alarms_total{{{_BY}}}[5m]))",
                    "{{stratum}} {{detector}} {{signal}}",
                ),
                width=12,
            ),
            line(
                "Changes of verdict",
                "In five minutes, by new verdict.",
                "none",
                Query(
                    f"sum by (stratum, verdict) (increase(driftline_verdict_changes_total{{{_BY}}}[5m]))",
                    "{{stratum}} {{verdict}}",
                ),
                width=12,
            ),
        ],
    )


def _monitor() -> PanelRow:
    return PanelRow(
        "The monitor itself",
        [
            line(
                "Labelled examples by domain",
                "Per second. A domain with few examples is judged late, and its verdict says so.",
                "ops",
                Query(
                    f"sum by (group, stratum) (rate(driftline_domain_examples_total{{{_BY}}}[5m]))",
                    "{{group}} {{stratum}}",
                ),
                width=12,
            ),
            line(
                "Left out by the monitor",
                "Examples per second with a value that was not finite.",
                "ops",
                Query('sum by (group) (rate(driftline_monitor_refused_total{group=~"$group"}[5m]))', "{{group}}"),
                width=12,
            ),
            switch_timeline(
                "Drift reference",
                "The pretraining window, or the first examples if the backbone came without one.",
                Query(
                    'max by (group, source) (driftline_drift_reference_info{group=~"$group"})', "{{group}} {{source}}"
                ),
                height=4,
            ),
        ],
    )
