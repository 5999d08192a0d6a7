"""Metrics of the join: examples, late clicks, conversions, and the event time behind them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EXAMPLES_JOINED = Counter("driftline_examples_joined_total", "Examples whose label is decided.", ["group", "label"])
OPEN_REQUESTS = Gauge("driftline_open_requests", "Requests whose label window is open.", ["group"])
DROP_REASONS = (
    "late_impression", "late_feedback", "orphan_feedback", "duplicate", "unshown_item", "evicted", "feedback_evicted",
    "feedback_unread", "uncorrectable", "other_backbone", "other_tasks", "bad_payload", "undecodable", "unjoinable",
    "lost_in_recovery", "lost_with_topic", "unreadable_row", "learning_stopped", "unlearnable", "other_experiment",
    "set_aside", "immature", "unlearned_click",
)  # fmt: skip
JOIN_DROPPED = Counter(
    "driftline_join_dropped_total",
    f"Records the join could not use, by reason: {', '.join(DROP_REASONS)}.",
    ["group", "reason"],
)
LABEL_DELAY = Histogram(
    "driftline_label_delay_seconds",
    "Time from an impression to its accepted feedback, by their event times, seconds.",
    ["group", "kind"],
    buckets=(0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600, 1_200, 1_800, 3_600),
)
LATE_CLICKS = Counter(
    "driftline_late_clicks_total",
    "Clicks that came after their request was closed, by outcome: relabelled (before it was learned), corrected "
    "(after).",
    ["group", "outcome"],
)
CONVERSIONS = Counter(
    "driftline_conversions_total",
    "Conversions joined, by time of arrival: in_window (with the labels), later (within join.conversion_window_s).",
    ["group", "when"],
)
CONVERSION_EXAMPLES = Counter(
    "driftline_conversion_examples_learned_total",
    "Clicks that the conversion task learned, after no label of their request could change any more.",
    ["group"],
)
CVR_LOG_LOSS = Gauge(
    "driftline_cvr_log_loss",
    "Log loss of the probability of a conversion given a click, over the recent clicks that were learned, scored "
    "before learning.",
    ["group", "arm"],
)
CVR_AUC = Gauge("driftline_cvr_auc", "AUC of the same over the same clicks.", ["group", "arm"])
CVR_HELD = Gauge(
    "driftline_cvr_held",
    "1 while the gate publishes no new kernel of conversions: their labels are in doubt, or one did harm.",
    ["group"],
)
CVR_SET_ASIDE = Gauge(
    "driftline_cvr_set_aside",
    "Strata whose conversions are set aside and not learned; the group is one.",
    ["group"],
)
CVR_RATE = Gauge("driftline_cvr_ratio", "Share of the recently learned clicks that converted.", ["group"])
AHEAD_OF_BROKER = Counter(
    "driftline_ahead_of_broker_total",
    "Impressions stamped further ahead of the broker than join.lateness_s; they count as of their append time.",
    ["group"],
)
FEEDBACK_UNREAD = Gauge(
    "driftline_feedback_unread_seconds",
    "Lag of ingest's reading of feedback against the newest record, seconds; windows close no sooner.",
    ["group"],
)
LEARNING_PAUSED = Gauge(
    "driftline_learning_paused",
    "1 while requests are dropped because ingest does not report that their feedback was read.",
    ["group"],
)
JOIN_BYTES = Gauge(
    "driftline_join_bytes",
    "Memory of the join, estimated, by part: open (join.max_bytes), closed (join.horizon_bytes).",
    ["group", "part"],
)
WATERMARK = Gauge(
    "driftline_watermark_timestamp_seconds",
    "Event time up to which windows are closed, seconds since the epoch.",
    ["group"],
)
