"""Every query of every dashboard returns data from a real Prometheus that scrapes a real run."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.chaos.conftest import Tell
from tests.chaos.small_backbone import USERS
from tests.chaos.stack import Stack
from tests.chaos.test_alarms import ports
from tests.streaming.monitoring.prometheus_server import RULES, Prometheus, prometheus, tool
from tests.streaming.monitoring.queries import PanelQuery, asked

EMPTY_WHEN_WELL = {
    "driftline_clock_corrected_total": "no event is ahead of the broker's clock",
    "driftline_commits_failed_total": "no transaction fails",
    "driftline_feature_rows_lost_total": "the feature store keeps every row",
    "driftline_connections_dropped_total": "no caller keeps the scorer waiting",
    "driftline_impressions_lost_total": "every impression is logged",
    "driftline_conversions_total": "nobody converts",
    "driftline_conversion_examples_learned_total": "the backbone tells clicks alone",
    "driftline_cvr_": "the backbone tells clicks alone",
    "driftline_late_clicks_total": "no click comes after its request is closed",
    "driftline_kernels_refused_total": "every kernel is taken",
    "driftline_snapshots_refused_total": "every snapshot can be read",
    "driftline_task_failures_total": "no task dies",
    "driftline:dead_letters:rate5m": "no event is refused",
    'alertname, group, stratum) (ALERTS{alertstate="firing"}': "no alert fires",
    "driftline_join_dropped_total": "the join can use every record",
    "driftline_gate_decisions_total": "the gate has nothing to decide",
    "driftline_drift_alarms_total": "no detector fires",
    "driftline_verdict_changes_total": "no verdict changes",
    "driftline_input_distance": "this backbone comes without a reference, and the first examples are taken for it",
    'verdict!~"stable|too_little_data"': "every domain is stable",
    "driftline_uplift_": "there are no control users",
    "driftline_ticks_total": "traffic moves event time on by itself",
}
"""What a query waits for that a run without faults need not have, by a part of its expression.

`test_dashboards_on_prometheus.py` sees each of them give data once it is there.
"""


def may_be_empty(query: PanelQuery) -> bool:
    """Whether nothing is a true answer."""
    return any(part in query.expr for part in EMPTY_WHEN_WELL)


def empty(running: Prometheus) -> list[str]:
    """The queries that should give data and give none yet."""
    return [f"{query}: {query.expr}" for query in asked() if not may_be_empty(query) and not running.query(query.ready)]


def announce(stack: Stack) -> None:
    """Tells a scorer that interest drifts, and how old every user is."""
    now = time.time()
    drift = {"event": "drift", "name": "of-a-test", "kind": "abrupt", "phase": "begins", "time": now}
    users = [{"event": "user", "user_id": user, "time": now, "fields": {"age": 30}} for user in USERS]
    answer = httpx.post(f"{stack.of('scorer')[0].url}/v1/events", json=[drift, *users], timeout=30)
    assert answer.status_code == 202, answer.text


def test_every_panel_shows_data_of_a_real_run(stack: Stack, tmp_path: Path, tell: Tell) -> None:
    tool("prometheus")  # or skips, before anybody asks for anything
    for part in EMPTY_WHEN_WELL:
        assert any(part in query.expr for query in asked()), f"no query has {part}"
    driver = stack.drive(seed=16)
    with prometheus(tmp_path, RULES.read_text(), ports(stack)) as running:
        announce(stack)
        stack.answered(driver, 300)
        until = time.monotonic() + 120
        while (missing := empty(running)) and time.monotonic() < until:
            time.sleep(2)
        assert not missing, "\n".join(missing)
        shown = [query for query in asked() if running.query(query.ready)]
    driver.stop()
    tell("every query of the dashboards was asked of a real run", f"{len(shown)} of {len(asked())} gave data")
