"""Every Prometheus metric of the system, declared once, with its unit and meaning."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # `_created` series add a line per counter that nobody reads

_FAST = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SECONDS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)

# --- ingest ---
EVENTS_INGESTED = Counter("driftline_events_ingested_total", "Outside events accepted.", ["event"])
DEAD_LETTERS = Counter(
    "driftline_dead_letters_total",
    "Records refused and kept as dead letters, by reason (docs/failures.md).",
    ["reason"],
)
CLOCK_CORRECTED = Counter(
    "driftline_clock_corrected_total",
    "Outside events with a time ahead of the broker's clock, which count as of their append time.",
    ["event"],
)
PROFILES_OUTDATED = Counter(
    "driftline_profiles_outdated_total", "Profiles left out because the feature store holds a newer one."
)
INGEST_LAG = Gauge(
    "driftline_ingest_lag_records",
    "Records of `interactions` not yet read, by lane: feedback, profiles.",
    ["lane", "partition"],
)
INGEST_PROGRESS_AGE = Gauge(
    "driftline_ingest_progress_age_seconds",
    "Seconds since, in broker time, everything in the partition of `interactions` had been handled.",
    ["partition"],
)
DRIFT_ANNOUNCED = Gauge(
    "driftline_drift_announced", "1 while drift of this name and kind is announced to be active.", ["name", "kind"]
)
TICKS = Counter("driftline_ticks_total", "Ticks written to advance event time.", ["group"])

# --- join ---
EXAMPLES_JOINED = Counter("driftline_examples_joined_total", "Examples whose label is decided.", ["group", "label"])
OPEN_REQUESTS = Gauge("driftline_open_requests", "Requests whose label window is open.", ["group"])
JOIN_DROPPED = Counter(
    "driftline_join_dropped_total",
    "Records the join could not use, by reason: late_impression, late_feedback, orphan_feedback, "
    "duplicate, unshown_item, evicted, feedback_evicted, feedback_unread, uncorrectable, other_backbone, other_tasks, "
    "bad_payload, undecodable, unjoinable, lost_in_recovery, lost_with_topic, unreadable_row, "
    "learning_stopped, unlearnable, other_experiment, set_aside, immature, unlearned_click.",
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

# --- learner ---
EXAMPLES_LEARNED = Counter("driftline_examples_learned_total", "Examples the kernel has learned from.", ["group"])
LEARN_SECONDS = Histogram(
    "driftline_learn_seconds",
    "Time to learn one micro-batch, seconds.",
    ["group"],
    buckets=_FAST,
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

# --- drift ---
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
    "Distance of recent inputs from the reference; `what` is a score, a feature or a projection; by distance: psi, "
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

# --- kernel log ---
KERNELS_PUBLISHED = Counter("driftline_kernels_published_total", "Kernels committed to the kernel log.", ["group"])
COMMIT_SECONDS = Histogram("driftline_commit_seconds", "Time of one transaction, seconds.", ["group"], buckets=_FAST)
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

# --- features ---
FEATURE_PUSH_SECONDS = Histogram(
    "driftline_feature_push_seconds", "Time of one push of live features, seconds.", buckets=_FAST
)
FEATURE_PUSH_FAILED = Counter("driftline_feature_push_failed_total", "Pushes of live features that failed.")
FEATURE_DEFAULTS = Counter(
    "driftline_feature_defaults_total",
    "Entities or values served by defaults, by view and reason: missing, stale, undeclared, bad_value, unknown_value, "
    "cut_value.",
    ["view", "reason"],
)

# --- scorer ---
SCORE_REQUESTS = Counter(
    "driftline_score_requests_total",
    "Scoring requests, by outcome: ok, refused (the caller's fault), aborted (the caller disconnected before the body "
    "was complete), not_ready (the scorer was starting or stopping), failed.",
    ["outcome"],
)
SCORE_SECONDS = Histogram(
    "driftline_score_seconds", "Time of one scoring request inside the scorer, seconds.", buckets=_FAST
)
SCORE_CANDIDATES = Histogram(
    "driftline_score_candidates",
    "Candidates of one request.",
    buckets=(1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
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
    buckets=_SECONDS,
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

# --- every process ---
CLOCK_OFFSET = Gauge(
    "driftline_clock_offset_seconds",
    "The broker's clock minus this machine's, estimated from acknowledgements, seconds.",
)
TASK_FAILURES = Counter("driftline_task_failures_total", "Background tasks that died, by task.", ["task"])
