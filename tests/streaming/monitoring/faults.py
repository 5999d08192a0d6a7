"""The healthy run, and every fault in which an alert must fire: series sample by minute, in promtool's notation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTES = 60
FAULT_AT = 30
"""Minutes of health before each fault begins."""


def rising(per_minute: float) -> str:
    """A counter that increases at this rate throughout."""
    return f"0+{per_minute}x{MINUTES}"


def steady(value: float) -> str:
    """A constant gauge."""
    return f"{value}x{MINUTES}"


def wave(low: float, high: float) -> str:
    """A gauge that goes to and fro."""
    return " ".join(f"{value}" for value in (low, high) * (MINUTES // 2))


def unknown(minutes: int) -> str:
    """A gauge that is no number for so long."""
    return " ".join(["NaN"] * minutes)


def then(healthy: str, faulty: str) -> str:
    """`healthy` up to the fault, `faulty` after it; both in promtool's notation without their repeats."""
    return f"{healthy}x{FAULT_AT - 1} {faulty}x{MINUTES - FAULT_AT}"


HEALTHY = {
    'up{job="ingest",instance="i"}': steady(1),
    'up{job="processor",instance="p"}': steady(1),
    'up{job="scorer",instance="s"}': steady(1),
    'process_start_time_seconds{job="processor",instance="p"}': steady(1_000),
    'driftline_verdict{group="main",stratum="group",verdict="stable"}': steady(1),
    'driftline_verdict{group="main",stratum="scene=home",verdict="drifting_handled"}': steady(1),
    'driftline_verdict{group="main",stratum="scene=home",verdict="drifting_unhandled"}': steady(0),
    'driftline_verdict{group="main",stratum="scene=home",verdict="broken_by_us"}': steady(0),
    'driftline_verdict{group="main",stratum="scene=home",verdict="labels_faulty"}': steady(0),
    'driftline_verdict{group="main",stratum="scene=home",verdict="input_fault"}': steady(0),
    'driftline_domain_expected_log_loss{group="main",stratum="scene=home"}': wave(0.49, 0.51),
    'driftline_domain_expected_error_nats{group="main",stratum="scene=home"}': steady(0.01),
    'driftline_arm_log_loss{group="main",arm="frozen"}': steady(0.50),
    'driftline_arm_log_loss{group="main",arm="live"}': steady(0.48),
    'driftline_freshness_seconds_bucket{group="main",le="1"}': rising(60),
    'driftline_freshness_seconds_bucket{group="main",le="60"}': rising(60),
    'driftline_freshness_seconds_bucket{group="main",le="300"}': rising(60),
    'driftline_freshness_seconds_bucket{group="main",le="+Inf"}': rising(60),
    'driftline_examples_joined_total{group="main",label="click"}': rising(120),
    'driftline_examples_joined_total{group="main",label="no_click"}': rising(480),
    'driftline_examples_learned_total{group="main"}': rising(600),
    'driftline_open_requests{group="main"}': steady(40),
    'driftline_watermark_timestamp_seconds{group="main"}': rising(60),
    'driftline_join_dropped_total{group="main",reason="orphan_feedback"}': rising(1),
    'driftline_join_dropped_total{group="main",reason="duplicate"}': rising(1),
    'driftline_kernels_taken_total{job="scorer",instance="s",group="main"}': rising(60),
    'driftline_kernel_pinned{group="main"}': steady(0),
    'driftline_kernel_frozen{group="main"}': steady(0),
    'driftline_learning_stopped{group="main"}': steady(0),
    'driftline_learning_paused{group="main"}': steady(0),
    'driftline_events_ingested_total{event="feedback"}': rising(120),
    'driftline_ingest_lag_records{job="ingest",lane="feedback",partition="0"}': steady(10),
    'driftline_ingest_lag_records{job="ingest",lane="profiles",partition="0"}': steady(40_000),
    'driftline_ingest_progress_age_seconds{job="ingest",partition="0"}': steady(0.3),
    'driftline_clock_offset_seconds{job="ingest",instance="i"}': steady(-0.2),
    'driftline_clock_corrected_total{event="feedback"}': rising(6),
    'driftline_processor_lag_records{job="processor",group="main"}': steady(10),
    'driftline_score_requests_total{outcome="ok"}': rising(60),
    'driftline_score_requests_total{outcome="failed"}': steady(0),
    'driftline_score_requests_total{outcome="refused"}': rising(60),
    'driftline_score_requests_total{outcome="aborted"}': rising(600),
    'driftline_score_seconds_bucket{le="0.05"}': rising(60),
    'driftline_score_seconds_bucket{le="0.5"}': rising(60),
    'driftline_score_seconds_bucket{le="+Inf"}': rising(60),
    'driftline_score_shift{group="main",arm="live"}': steady(0.05),
    "driftline_feature_push_failed_total": steady(0),
    'driftline_feature_found_total{view="user_profile"}': rising(60),
    'driftline_feature_found_total{view="item_profile"}': rising(6_000),
    'driftline_feature_found_total{view="live_user"}': rising(60),
    'driftline_feature_found_total{view="live_domain"}': rising(60),
    'driftline_feature_defaults_total{view="live_domain",reason="missing"}': rising(60),
    'driftline_feature_defaults_total{view="user_profile",reason="missing"}': rising(15),
    'driftline_feature_defaults_total{view="live_user",reason="missing"}': rising(240),
    'driftline_feature_defaults_total{view="item_profile",reason="unknown_value"}': rising(9_000),
    'driftline_feature_defaults_total{view="domain",reason="undeclared"}': rising(1),
    'driftline_feature_filled_total{view="user_profile",field="age"}': rising(45),
    'driftline_feature_filled_total{view="item_profile",field="year"}': rising(5_900),
}
"""A run as it should be, sample by minute; many clients hang up and are refused, which is nobody's alarm."""


@dataclass(frozen=True)
class Fault:
    """What is other than in a healthy run from minute `FAULT_AT` on."""

    series: Mapping[str, str]
    gone: tuple[str, ...] = field(default=())
    """Series that a process never had or took with it, by the beginning of their names."""
    seen_after: int = 20
    """Minutes from the fault to a moment at which the alert holds: one count is soon out of a window."""

    def input(self) -> dict[str, str]:
        """All series of the run."""
        kept = {name: values for name, values in HEALTHY.items() if not name.startswith(self.gone or ("\0",))}
        return {**kept, **self.series}


STANDS = then("0+600", f"{600 * FAULT_AT}+0")
MAIN = 'group="main"'
FAULTS: dict[str, tuple[Fault, ...]] = {
    **{
        alert: (Fault({f'driftline_verdict{{{MAIN},stratum="scene=home",verdict="{verdict}"}}': then("0", "1")}),)
        for alert, verdict in (
            ("DriftlineDriftUnhandled", "drifting_unhandled"),
            ("DriftlineBrokenByUs", "broken_by_us"),
            ("DriftlineLabelsFaulty", "labels_faulty"),
            ("DriftlineInputFault", "input_fault"),
        )
    },
    "DriftlineExpectedLossHigh": (
        Fault({f'driftline_domain_expected_log_loss{{{MAIN},stratum="scene=home"}}': then("0.5", "0.6")}),
        # nothing was known at first, and no label has come yet: no error of what is expected
        Fault(
            {
                f'driftline_domain_expected_log_loss{{{MAIN},stratum="scene=home"}}': (
                    f"{unknown(5)} 0.5x24 0.6x{FAULT_AT}"
                ),
                f'driftline_domain_expected_error_nats{{{MAIN},stratum="scene=home"}}': unknown(MINUTES),
            }
        ),
    ),
    "DriftlineProcessDown": (
        Fault({'up{job="scorer",instance="s"}': then("1", "0")}),
        # gone from what is scraped: nothing says 0
        Fault({'up{job="processor",instance="p"}': then("1", "_")}),
    ),
    "DriftlineTaskDied": (
        # seen by one scrape before the process ended
        Fault(
            {'driftline_task_failures_total{job="processor",task="learner-main"}': f"_x{FAULT_AT} 1 _x{FAULT_AT}"},
            seen_after=3,
        ),
    ),
    "DriftlineRestarts": (
        Fault({'process_start_time_seconds{job="processor",instance="p"}': then("1000", "1800+60")}, seen_after=10),
    ),
    "DriftlineLiveWorseThanFrozen": (Fault({f'driftline_arm_log_loss{{{MAIN},arm="live"}}': then("0.48", "0.6")}),),
    "DriftlineStale": (
        # kernels come, but old ones
        Fault(
            {
                f'driftline_freshness_seconds_bucket{{{MAIN},le="{le}"}}': then("0+60", f"{60 * FAULT_AT}+0")
                for le in ("1", "60")
            }
        ),
        # no kernel was ever taken: there is no freshness to ask
        Fault({}, gone=("driftline_freshness_seconds_bucket", "driftline_kernels_taken_total")),
    ),
    "DriftlineScorerBehind": (
        # one of two stands still
        Fault(
            {
                'up{job="scorer",instance="s2"}': steady(1),
                'driftline_kernels_taken_total{job="scorer",instance="s2",group="main"}': then(
                    "0+60", f"{60 * FAULT_AT}+0"
                ),
            }
        ),
        # one has never taken a kernel
        Fault({'up{job="scorer",instance="s2"}': then("_", "1")}),
    ),
    "DriftlineLearningStopped": (
        # the join stands still: what it hands on and what is learned stop together
        Fault(
            {
                f"driftline_examples_learned_total{{{MAIN}}}": STANDS,
                f'driftline_examples_joined_total{{{MAIN},label="click"}}': then("0+120", f"{120 * FAULT_AT}+0"),
                f'driftline_examples_joined_total{{{MAIN},label="no_click"}}': then("0+480", f"{480 * FAULT_AT}+0"),
            }
        ),
        # nothing is scored here: other systems show the items and tell of it
        Fault(
            {
                f"driftline_examples_learned_total{{{MAIN}}}": STANDS,
                'driftline_events_ingested_total{event="impression"}': rising(60),
            },
            gone=("driftline_score_requests_total", "driftline_open_requests"),
        ),
        # the processor reads another topic than the scorers write: nothing is open, and it never had a group's metrics
        Fault({}, gone=("driftline_examples_", "driftline_open_requests", "driftline_watermark")),
    ),
    "DriftlineLabelsSetAside": (
        Fault({f"driftline_gate_set_aside{{{MAIN}}}": then("0", "1")}),
        Fault({f"driftline_cvr_set_aside{{{MAIN}}}": then("0", "1")}),
    ),
    "DriftlinePublicationHeld": (Fault({f"driftline_gate_held{{{MAIN}}}": then("0", "1")}),),
    "DriftlineRolledBack": (
        Fault({f'driftline_gate_decisions_total{{{MAIN},kind="rolled_back"}}': then("0", "1")}, seen_after=5),
    ),
    "DriftlineLearningPaused": (Fault({f"driftline_learning_paused{{{MAIN}}}": then("0", "1")}),),
    "DriftlineWatermarkStands": (
        Fault({f"driftline_watermark_timestamp_seconds{{{MAIN}}}": then("0+60", f"{60 * FAULT_AT}+0")}),
    ),
    "DriftlineWatermarkAhead": (
        Fault({f"driftline_watermark_timestamp_seconds{{{MAIN}}}": then("0+60", f"{60 * FAULT_AT + 3_600}+60")}),
    ),
    "DriftlineJoinDrops": (
        Fault({f'driftline_join_dropped_total{{{MAIN},reason="late_impression"}}': then("0+0", "0+10")}),
        # nothing is scored any more, and still records come that cannot be used
        Fault(
            {f'driftline_join_dropped_total{{{MAIN},reason="undecodable"}}': then("0+0", "0+1")},
            gone=("driftline_score_requests_total",),
        ),
    ),
    "DriftlineFeedbackUnused": (
        Fault({f'driftline_join_dropped_total{{{MAIN},reason="orphan_feedback"}}': then("0+1", f"{FAULT_AT}+60")}),
    ),
    "DriftlineLabelRate": (
        Fault({f'driftline_examples_joined_total{{{MAIN},label="click"}}': then("0+120", f"{120 * FAULT_AT}+0")}),
        Fault({f'driftline_examples_joined_total{{{MAIN},label="click"}}': then("0+120", f"{120 * FAULT_AT}+600")}),
    ),
    "DriftlineFeaturePushFails": (Fault({"driftline_feature_push_failed_total": then("0+0", "0+60")}),),
    "DriftlineFeaturesMissing": (
        # half of the profiles are lost
        Fault(
            {
                'driftline_feature_found_total{view="user_profile"}': then("0+60", f"{60 * FAULT_AT}+30"),
                'driftline_feature_defaults_total{view="user_profile",reason="missing"}': then("0+15", "450+45"),
            }
        ),
        # all are, and none was ever missing before
        Fault(
            {
                'driftline_feature_found_total{view="item_profile"}': then("0+6000", f"{6_000 * FAULT_AT}+0"),
                'driftline_feature_defaults_total{view="item_profile",reason="missing"}': then("_", "0+6000"),
            }
        ),
        # the scorers read another store than the processor writes
        Fault(
            {'driftline_feature_defaults_total{view="live_domain",reason="missing"}': rising(120)},
            gone=('driftline_feature_found_total{view="live_domain"}',),
        ),
        # they are too old
        Fault(
            {
                'driftline_feature_found_total{view="live_user"}': then("0+60", f"{60 * FAULT_AT}+0"),
                'driftline_feature_defaults_total{view="live_user",reason="stale"}': then("_", "0+60"),
            }
        ),
    ),
    "DriftlineFieldEmpty": (
        Fault({'driftline_feature_filled_total{view="user_profile",field="age"}': then("0+45", f"{45 * FAULT_AT}+0")}),
        # the scorer was started again after the loss: it has no series of the field
        Fault({'driftline_feature_filled_total{view="item_profile",field="year"}': then("0+5900", "_")}),
    ),
    "DriftlineValuesUnknown": (
        Fault(
            {
                'driftline_feature_defaults_total{view="item_profile",reason="unknown_value"}': then(
                    "0+9000", f"{9_000 * FAULT_AT}+60000"
                )
            }
        ),
        # there was none before
        Fault({'driftline_feature_defaults_total{view="user_profile",reason="unknown_value"}': then("_", "0+60")}),
    ),
    "DriftlineDomainUndeclared": (
        Fault({'driftline_feature_defaults_total{view="domain",reason="undeclared"}': then("_", "0+6")}),
        # shown by other systems
        Fault(
            {
                'driftline_feature_defaults_total{view="domain",reason="undeclared"}': then("_", "0+6"),
                'driftline_events_ingested_total{event="impression"}': rising(60),
            },
            gone=("driftline_score_requests_total",),
        ),
    ),
    "DriftlineLag": (
        Fault({'driftline_ingest_lag_records{job="ingest",lane="feedback",partition="0"}': then("10", "60000")}),
        Fault({'driftline_ingest_lag_records{job="ingest",lane="profiles",partition="0"}': then("10", "60000")}),
        Fault({'driftline_processor_lag_records{job="processor",group="main"}': then("10", "60000")}),
    ),
    "DriftlineIngestBehind": (
        Fault({'driftline_ingest_progress_age_seconds{job="ingest",partition="0"}': then("0.3", "0.3+60")}),
    ),
    "DriftlineClockOff": (
        Fault({'driftline_clock_offset_seconds{job="ingest",instance="i"}': then("-0.2", "-3600")}),
        Fault({'driftline_clock_offset_seconds{job="scorer",instance="s"}': then("0", "300")}),
    ),
    "DriftlineEventsAhead": (Fault({'driftline_clock_corrected_total{event="feedback"}': then("0+6", "180+60")}),),
    "DriftlineDeadLetters": (Fault({'driftline_dead_letters_total{reason="future"}': then("0+0", "0+60")}),),
    "DriftlineKernelsRefused": (
        Fault({f'driftline_kernels_refused_total{{{MAIN},reason="fingerprint"}}': then("_", "1")}, seen_after=3),
    ),
    "DriftlineCommitsFailing": (
        Fault({f'driftline_commits_failed_total{{{MAIN},reason="failed"}}': then("_", "1")}, seen_after=3),
    ),
    "DriftlineSnapshotRefused": (
        Fault({f"driftline_snapshots_refused_total{{{MAIN}}}": then("_", "1")}, seen_after=3),
    ),
    "DriftlineImpressionsLost": (
        Fault({'driftline_impressions_lost_total{reason="buffer_full"}': then("_", "1")}, seen_after=3),
    ),
    "DriftlineScoringFails": (Fault({'driftline_score_requests_total{outcome="failed"}': then("0+0", "0+60")}),),
    "DriftlineScoringSlow": (Fault({'driftline_score_seconds_bucket{le="0.05"}': then("0+60", f"{60 * FAULT_AT}+0")}),),
    "DriftlineScoresMoved": (Fault({f'driftline_score_shift{{{MAIN},arm="live"}}': then("0.05", "0.4")}),),
}
"""Faults of each alert. One that is added to the rules gets its fault here."""

CASES = [(alert, number, fault) for alert, faults in FAULTS.items() for number, fault in enumerate(faults, 1)]
