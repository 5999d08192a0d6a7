"""The overview dashboard: is interest drifting, where and since when, is it handled, or did we break something."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from streaming.monitoring.dashboards import marks
from streaming.monitoring.dashboards.panels import (
    PanelRow,
    Query,
    dashboard,
    line,
    number,
    switch_timeline,
    verdict_number,
    verdict_timeline,
)


def overview() -> Dashboard:
    """Verdicts by domain, the kernel's gain, freshness, lag, and losses."""
    sections = [
        PanelRow("", [*_verdict_numbers(), *_kernel_numbers(), *_timelines()]),
        _arms(),
        _flow(),
        _volume(),
        _lost(),
    ]
    return dashboard(
        "driftline",
        "Driftline: overview",
        "Is interest drifting, where, since when; is the kernel handling it; or did we break something.",
        sections,
        [marks.ANNOUNCED, marks.DECISIONS],
    )


def _verdict_numbers() -> list[Builder[Panel]]:
    return [
        verdict_number(
            "Verdict",
            "Of the whole group. The bars below say the same by domain.",
            Query('max by (group) (driftline:verdict_code{stratum="group",group=~"$group"})', "{{group}}"),
            width=6,
        ),
        number(
            "Domains in trouble",
            "Domains with unhandled drift, faulty labels or inputs, or a broken kernel.",
            "none",
            Query(
                "sum(max by (group, stratum, verdict) (driftline_verdict"
                '{verdict=~"drifting_unhandled|broken_by_us|labels_faulty|input_fault",group=~"$group"}))'
            ),
            width=3,
            bad_above=1,
        ),
        number(
            "Alerts firing",
            "The runbooks say what to do about each.",
            "none",
            Query('count(ALERTS{alertstate="firing"}) or vector(0)'),
            width=3,
            bad_above=1,
        ),
    ]


def _kernel_numbers() -> list[Builder[Panel]]:
    return [
        number(
            "Gained within requests",
            "AUC within requests, live arm minus frozen arm, over the recent requests with both labels. Below zero the "
            "live arm orders worse.",
            "none",
            Query('driftline:live_request_auc_gain{group=~"$group"}', "{{group}}"),
        ),
        number(
            "Freshness p50",
            "From the event time of a kernel's newest example to the kernel's use in the scorer.",
            "s",
            Query('driftline:freshness_seconds:p50{group=~"$group"}', "{{group}}"),
        ),
        number(
            "Kernel in use",
            "Smallest version over all scorers. 0 is the frozen arm.",
            "none",
            Query('min by (group) (driftline_kernel_version{group=~"$group"})', "{{group}}"),
        ),
    ]


def _timelines() -> list[Builder[Panel]]:
    return [
        verdict_timeline(
            "Verdicts by domain",
            "One bar per domain; `group` is the whole. Drifting, handled: the frozen arm falls and the live arm holds. "
            "Broken by us: the live arm falls and the frozen arm holds.",
            Query('driftline:verdict_code{group=~"$group"}', "{{group}} {{stratum}}"),
            height=9,
        ),
        switch_timeline(
            "Announced drift",
            "Drift that somebody announced, by name and kind: a replayed script, or a change that you know of.",
            Query("max by (name, kind) (driftline_drift_announced)", "{{name}} ({{kind}})"),
            height=4,
        ),
        switch_timeline(
            "Alerts",
            "Alerts that are firing, with the group and domain that they concern.",
            Query(
                'max by (alertname, group, stratum) (ALERTS{alertstate="firing"})',
                "{{alertname}} {{group}} {{stratum}}",
            ),
            height=4,
        ),
    ]


def _arms() -> PanelRow:
    return PanelRow(
        "Is it better than the frozen model?",
        [
            line(
                "Log loss by arm",
                "Over the recent window, each example scored before it was learned; `expected` comes from the served "
                "scores before labels arrive. If frozen rises and live holds, drift is handled. If live rises and "
                "frozen holds, the kernel is broken.",
                "none",
                Query('max by (group, arm) (driftline_arm_log_loss{group=~"$group"})', "{{group}} {{arm}}"),
                Query(
                    'max by (group) (driftline_domain_expected_log_loss{stratum="group",group=~"$group"})',
                    "{{group}} expected",
                ),
            ),
            line(
                "AUC by arm",
                "Over the recent window, scored before learning.",
                "none",
                Query('max by (group, arm) (driftline_arm_auc{group=~"$group"})', "{{group}} {{arm}}"),
            ),
            line(
                "Calibration by arm",
                "Mean score over mean label in the recent window. 1 is calibrated; above 1, scores are too high.",
                "none",
                Query('max by (group, arm) (driftline_arm_calibration_ratio{group=~"$group"})', "{{group}} {{arm}}"),
            ),
        ],
    )


def _flow() -> PanelRow:
    return PanelRow(
        "How fresh is it, and how far behind?",
        [
            line(
                "Freshness",
                "From the event time of a kernel's newest example to the kernel's use in the scorer.",
                "s",
                Query('driftline:freshness_seconds:p50{group=~"$group"}', "{{group}} p50"),
                Query('driftline:freshness_seconds:p99{group=~"$group"}', "{{group}} p99"),
            ),
            line(
                "Lag",
                "Records not yet read by ingest, not yet processed, and queued for the learner.",
                "none",
                Query("sum by (lane) (driftline_ingest_lag_records)", "ingest, {{lane}}"),
                Query('max by (group) (driftline_processor_lag_records{group=~"$group"})', "{{group}} processor"),
                Query('max by (group) (driftline_learn_queue_records{group=~"$group"})', "{{group}} learner queue"),
            ),
            line(
                "Lag of event time",
                "Wall clock minus watermark; windows up to the watermark are closed. It grows if nothing is read or "
                "reported.",
                "s",
                Query(
                    'time() - max by (group) (driftline_watermark_timestamp_seconds{group=~"$group"} > 0)', "{{group}}"
                ),
                Query("max by (partition) (driftline_ingest_progress_age_seconds)", "ingest, partition {{partition}}"),
                Query("max by (job) (driftline_clock_offset_seconds)", "clock of {{job}}"),
                Query(
                    'max by (group) (driftline_feedback_unread_seconds{group=~"$group"})', "feedback unread, {{group}}"
                ),
            ),
        ],
    )


def _volume() -> PanelRow:
    return PanelRow(
        "How much?",
        [
            line(
                "Events in",
                "Outside events that ingest accepted, per second.",
                "ops",
                Query("driftline:events_ingested:rate1m", "{{event}}"),
                Query("sum by (event) (rate(driftline_clock_corrected_total[1m]))", "{{event}}, ahead of the clock"),
                Query("sum(rate(driftline_profiles_outdated_total[1m]))", "profiles, outdated"),
            ),
            line(
                "Examples",
                "Examples whose label is decided, and examples learned, per second.",
                "ops",
                Query(
                    'sum by (group, label) (rate(driftline_examples_joined_total{group=~"$group"}[1m]))',
                    "{{group}} joined {{label}}",
                ),
                Query('driftline:examples_learned:rate1m{group=~"$group"}', "{{group}} learned"),
            ),
            line(
                "Kernels per minute",
                "Committed by the processor; taken and refused by the scorers.",
                "none",
                Query(
                    '60 * sum by (group) (rate(driftline_kernels_published_total{group=~"$group"}[1m]))',
                    "{{group}} published",
                ),
                Query(
                    '60 * sum by (group) (rate(driftline_kernels_taken_total{group=~"$group"}[1m]))', "{{group}} taken"
                ),
                Query(
                    '60 * sum by (group, reason) (rate(driftline_kernels_refused_total{group=~"$group"}[1m]))',
                    "{{group}} refused {{reason}}",
                ),
            ),
        ],
    )


def _lost() -> PanelRow:
    return PanelRow(
        "What was refused or lost?",
        [
            line(
                "Dead letters by reason",
                "Records refused, per second. The topic `dead-letters` holds each of them.",
                "ops",
                Query("driftline:dead_letters:rate5m > 0", "{{reason}}"),
            ),
            line(
                "Dropped by the join",
                "Records the join could not use, per second, by reason.",
                "ops",
                Query(
                    'sum by (group, reason) (rate(driftline_join_dropped_total{group=~"$group"}[5m])) > 0',
                    "{{group}} {{reason}}",
                ),
                Query(
                    'sum by (group) (rate(driftline_ahead_of_broker_total{group=~"$group"}[1m]))',
                    "stamped ahead, {{group}}",
                ),
            ),
            line(
                "Failures",
                "Failed transactions and pushes, live rows that the store lost, impressions not logged, background "
                "tasks that died: all should be zero.",
                "none",
                Query(
                    'sum by (group, reason) (driftline_commits_failed_total{group=~"$group"})',
                    "{{group}} commit {{reason}}",
                ),
                Query("sum(driftline_feature_push_failed_total)", "push"),
                Query('sum by (group) (driftline_feature_rows_lost_total{group=~"$group"})', "rows lost, {{group}}"),
                Query("sum by (reason) (driftline_impressions_lost_total)", "impression {{reason}}"),
                Query("sum by (task) (driftline_task_failures_total)", "task {{task}}"),
                Query(
                    'sum by (group) (driftline_snapshots_refused_total{group=~"$group"})',
                    "snapshot refused, {{group}}",
                ),
                Query('max by (group) (driftline_learning_paused{group=~"$group"})', "learning paused, {{group}}"),
            ),
        ],
    )
