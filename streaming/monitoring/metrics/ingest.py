"""Metrics of ingest: what it read, refused and wrote."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

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
