"""The catalogue of metrics is complete and current, and the names follow Prometheus's conventions."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from streaming.monitoring.catalogue import UNITS, MetricEntry, as_markdown, entries

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
ENTRIES = tuple(entries())
OF_ONE_PERSON = {"user", "user_id", "item", "item_id", "request", "request_id", "session", "session_id"}
NO_BASE_UNIT = {"ms", "millis", "milliseconds", "us", "minutes", "hours", "days", "kb", "mb", "percent", "pct"}


def named(entry: MetricEntry) -> str:
    return entry.name


def test_the_page_in_docs_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_markdown() + "\n", "run: driftline metrics > docs/metrics.md"


def test_the_page_holds_every_metric_that_a_process_can_expose() -> None:
    exposed = {family.name for family in REGISTRY.collect() if family.name.startswith("driftline_")}
    assert {entry.name.removesuffix("_total") for entry in ENTRIES} == exposed


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_a_metric_has_a_section_a_description_and_no_label_of_users_or_items(entry: MetricEntry) -> None:
    assert entry.section
    assert entry.meaning.endswith(".")
    assert not OF_ONE_PERSON & set(entry.labels)


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_a_metric_name_ends_with_the_suffix_of_its_type_and_unit(entry: MetricEntry) -> None:
    assert entry.name.endswith("_total") == (entry.type == "counter")
    assert not NO_BASE_UNIT & set(entry.name.split("_"))
    assert not {"bucket", "sum", "count"} & {entry.name.rsplit("_", 1)[1]}, "Prometheus takes these for itself"
    assert entry.name.endswith("_info") == entry.meaning.startswith("1 for what "), "an info is 1 for what it tells"
    if entry.type == "histogram":
        assert entry.unit != "number" or entry.name == "driftline_score_candidates", "of what?"


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_a_ratio_metric_has_the_suffix_ratio(entry: MetricEntry) -> None:
    ratio_words = ("share of", "mean score over mean label", "0 to 1")
    if any(words in entry.meaning.lower() for words in ratio_words) and "probability" not in entry.name:
        assert entry.unit == UNITS["ratio"]
