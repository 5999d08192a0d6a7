"""Metrics of the learner and its gate: how the arms score, what the kernel knows, what the experiment shows."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from streaming.monitoring.metrics.buckets import FAST

EXAMPLES_LEARNED = Counter("driftline_examples_learned_total", "Examples the kernel has learned from.", ["group"])
LEARN_SECONDS = Histogram(
    "driftline_learn_seconds",
    "Time to learn one micro-batch, seconds.",
    ["group"],
    buckets=FAST,
)
GATE_DECISIONS = Counter(
    "driftline_gate_decisions_total",
    "Decisions of the gate, by kind: quarantined, resumed, accepted, held, undone, rolled_back (docs/gate.md).",
    ["group", "kind"],
)
GATE_HELD = Gauge("driftline_gate_held", "1 while the gate holds publication.", ["group"])
GATE_SET_ASIDE = Gauge("driftline_gate_set_aside", "Strata whose labels are set aside; the group is one.", ["group"])
GATE_WAITING = Gauge("driftline_gate_waiting_examples", "Examples that wait because of doubtful labels.", ["group"])
GATE_EVIDENCE = Gauge(
    "driftline_gate_evidence_ratio",
    "Evidence that the first arm is worse than the second, as a share of the threshold; the maximum over all strata.",
    ["group", "comparison"],
)
ARM_REQUEST_AUC = Gauge(
    "driftline_arm_request_auc",
    "AUC within requests over the recent window of requests with both labels, scored before learning.",
    ["group", "arm"],
)
ARM_NDCG = Gauge(
    "driftline_arm_ndcg", "Mean NDCG at the rank `at`, 5 or 10, over the same requests.", ["group", "arm", "at"]
)
JUDGED_LISTS = Gauge(
    "driftline_judged_lists", "Requests with both labels in that window: those whose order is judged.", ["group"]
)
ARM_LOG_LOSS = Gauge(
    "driftline_arm_log_loss", "Log loss over the recent window, scored before learning.", ["group", "arm"]
)
ARM_AUC = Gauge("driftline_arm_auc", "AUC over the recent window, scored before learning.", ["group", "arm"])
ARM_CALIBRATION = Gauge(
    "driftline_arm_calibration_ratio",
    "Mean score over mean label in the recent window; 1 is calibrated.",
    ["group", "arm"],
)
COMPRESSION_NATS_KEPT = Gauge(
    "driftline_compression_kept_nats",
    "Information about the representation that the compression keeps, nats per example; fixed with the backbone.",
    ["group"],
)
COMPRESSION_NATS_RELEVANT = Gauge(
    "driftline_compression_relevant_nats",
    "Part of that which identifies user and domain, nats per example; fixed with the backbone.",
    ["group"],
)
MATCHING_NATS = Gauge(
    "driftline_matching_nats", "Information learned from the stream and not forgotten yet, nats in all.", ["group"]
)
MATCHING_GAIN_NATS = Gauge(
    "driftline_matching_gain_nats",
    "Information that an example of the last micro-batch is expected to teach the kernel, nats per example.",
    ["group"],
)
MATCHING_FACET_GAIN_NATS = Gauge(
    "driftline_matching_facet_gain_nats",
    "The same by declared value of a domain facet, in the last measured micro-batch that had it, nats per example.",
    ["group", "facet", "value"],
)
MATCHING_PROBABILITY = Gauge(
    "driftline_matching_probability",
    "Probability that the matching helps beside the direct features, given the evidence, 0 to 1.",
    ["group"],
)
KERNEL_DISTANCE = Gauge(
    "driftline_kernel_distance", "L2 distance of the newest kernel from its initialisation, the identity.", ["group"]
)
KERNEL_TRUST = Gauge(
    "driftline_kernel_trust_ratio",
    "Weight of an arm in the served mixture, 0 to 1: frozen, direct, short, long; they sum to 1.",
    ["group", "arm"],
)
LEARN_QUEUE = Gauge("driftline_learn_queue_records", "Records queued for the learning thread.", ["group"])
LEARNING_STOPPED = Gauge("driftline_learning_stopped", "1 while an operator has stopped learning.", ["group"])
UPLIFT = Gauge(
    "driftline_uplift_difference",
    "Rate of the live arm's users minus that of the control users at the last look, by ratio: clicks_per_item, "
    "clicks_per_request, conversions_per_item.",
    ["group", "ratio"],
)
UPLIFT_LOW = Gauge(
    "driftline_uplift_low",
    "Lower end of its 95 % interval, valid at any time; absent while there are too few events.",
    ["group", "ratio"],
)
UPLIFT_HIGH = Gauge("driftline_uplift_high", "Upper end of the same interval.", ["group", "ratio"])
UPLIFT_USERS = Gauge("driftline_uplift_users", "Distinct users in the experiment, to about 5 %.", ["group", "arm"])
UPLIFT_REQUESTS = Gauge("driftline_uplift_requests", "Labelled requests in the experiment.", ["group", "arm"])
