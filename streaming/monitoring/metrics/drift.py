"""Metrics of the drift monitor: verdicts, alarms, and what they are made of."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

VERDICT = Gauge(
    "driftline_verdict",
    "1 for the present verdict, 0 for the others: stable, drifting_handled, drifting_unhandled, broken_by_us, "
    "labels_faulty, input_fault, too_little_data.",
    ["group", "stratum", "verdict"],
)
VERDICT_CHANGES = Counter(
    "driftline_verdict_changes_total", "Changes to this verdict.", ["group", "stratum", "verdict"]
)
DRIFT_ALARMS = Counter(
    "driftline_drift_alarms_total",
    "Alarms of single detectors, by signal.",
    ["group", "stratum", "detector", "signal"],
)
DOMAIN_EXAMPLES = Counter("driftline_domain_examples_total", "Labelled examples.", ["group", "stratum"])
DOMAIN_LABEL_RATE = Gauge(
    "driftline_domain_label_ratio", "Clicks per item of the recent labelled examples, 0 to 1.", ["group", "stratum"]
)
DOMAIN_ARM_LOG_LOSS = Gauge(
    "driftline_domain_arm_log_loss",
    "Log loss of the recent examples, scored before learning, nats.",
    ["group", "stratum", "arm"],
)
DOMAIN_ARM_AUC = Gauge(
    "driftline_domain_arm_auc", "AUC of the recent examples, scored before learning.", ["group", "stratum", "arm"]
)
DOMAIN_ARM_CALIBRATION = Gauge(
    "driftline_domain_arm_calibration_ratio",
    "Mean score over mean label of the recent examples; 1 is calibrated.",
    ["group", "stratum", "arm"],
)
DOMAIN_EXPECTED_LOG_LOSS = Gauge(
    "driftline_domain_expected_log_loss",
    "Log loss expected from the served scores, before labels arrive, nats.",
    ["group", "stratum"],
)
DOMAIN_EXPECTED_AUC = Gauge(
    "driftline_domain_expected_auc",
    "AUC expected from the served scores, before labels arrive.",
    ["group", "stratum"],
)
DOMAIN_EXPECTED_ERROR = Gauge(
    "driftline_domain_expected_error_nats",
    "Distance of the expected log loss from the measured one, nats.",
    ["group", "stratum"],
)
INPUT_DISTANCE = Gauge(
    "driftline_input_distance",
    "Distance of recent inputs from the reference; `what` is one of `drift.inputs`; by distance: psi, "
    "jensen_shannon, ks.",
    ["group", "stratum", "what", "distance"],
)
DRIFT_REFERENCE = Gauge(
    "driftline_drift_reference_info",
    "1 for what the drift reference is made of: pretraining, first_examples.",
    ["group", "source"],
)
MONITOR_REFUSED = Counter(
    "driftline_monitor_refused_total", "Examples with non-finite values, which the drift monitor left out.", ["group"]
)
