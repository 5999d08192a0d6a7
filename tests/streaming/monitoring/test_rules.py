"""Prometheus' configuration and rules: against our metrics, their runbooks, promtool and the real Prometheus."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from model.drift.verdict import VerdictKind
from streaming.monitoring import metrics
from streaming.monitoring.health import HealthServer
from tests.streaming.monitoring.declared import declared, matchers_in, metrics_in, recorded, records_in
from tests.streaming.monitoring.faults import CASES, HEALTHY
from tests.streaming.monitoring.prometheus_server import MONITORING, ROOT, RULES, prometheus, rules, tool
from tests.streaming.monitoring.queries import dashboards

ALERTS = [rule for rule in rules() if "alert" in rule]


def named(rule: dict[str, Any]) -> str:
    return str(rule["alert"])


def test_rules_name_only_metrics_and_labels_that_are_declared() -> None:
    names = declared()
    for rule in rules():
        assert metrics_in(rule["expr"]) <= names.keys(), rule
        for name, labels in matchers_in(rule["expr"]):
            assert labels <= names[name], rule


def test_the_series_of_the_rule_tests_are_declared_metrics() -> None:
    names = declared()
    for series in {*HEALTHY, *(series for _, _, fault in CASES for series in fault.series)}:
        name, _, labels = series.partition("{")
        if name.startswith("driftline_"):
            own = set(re.findall(r'(\w+)="', labels)) - {"job", "instance", "le"}
            assert own == names[name], series


@pytest.mark.parametrize("alert", ALERTS, ids=named)
def test_an_alert_has_a_summary_a_severity_and_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "warn"}
    assert {"summary", "description", "runbook_url"} == alert["annotations"].keys()


@pytest.mark.parametrize("alert", ALERTS, ids=named)
def test_the_runbook_of_an_alert_says_what_it_means_where_to_look_and_what_to_do(alert: dict[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    sections = re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)[1:]
    found = [section for section in sections if section.partition("\n")[0].lower() == anchor]
    assert len(found) == 1, f"{page} needs one section ## {alert['alert']}"
    assert found[0].startswith(alert["alert"])
    assert all(f"\n**{part}** " in found[0] for part in ("Means.", "Look.", "Do.")), found[0]


def test_every_runbook_belongs_to_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8"), flags=re.M)
    assert headings == [alert["alert"] for alert in ALERTS], "one section for each alert, in the order of the rules"


def test_every_dashboard_and_panel_a_runbook_names_exists() -> None:
    titles = {whole["title"]: {panel["title"] for panel in whole["panels"]} for whole in dashboards().values()}
    for section in re.split(r"^## ", (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8"), flags=re.M)[1:]:
        panels: set[str] = set()
        for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", section):
            if name in titles:
                panels = titles[name]
            else:
                assert " ".join(name.split()) in panels, f"{section.partition(chr(10))[0]} names *{name}*"


def test_every_verdict_that_requires_action_has_an_alert() -> None:
    asked = {name for rule in ALERTS for name in re.findall(r'driftline_verdict{verdict="(\w+)"}', rule["expr"])}
    assert set(VerdictKind) - asked == {VerdictKind.STABLE, VerdictKind.HANDLED, VerdictKind.TOO_LITTLE}


def test_every_recorded_series_used_by_a_rule_is_recorded() -> None:
    assert {name for rule in rules() for name in records_in(rule["expr"])} <= recorded().keys()


def test_promtool_accepts_configuration_and_rules() -> None:
    for command in (["check", "config", str(MONITORING / "prometheus.yml")], ["check", "rules", str(RULES)]):
        done = subprocess.run([tool("promtool"), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_real_prometheus_scrapes_every_job_and_records(tmp_path: Path) -> None:
    for arm, value in (("frozen", 0.70), ("live", 0.75)):
        metrics.learner.ARM_AUC.labels(group="monitoring-test", arm=arm).set(value)
    with HealthServer("127.0.0.1", 0, {}) as target:
        jobs = {job: [target.port] for job in ("ingest", "processor", "scorer")}
        with prometheus(tmp_path, RULES.read_text(), jobs) as running:
            up = running.wait_for("up == 1", wanted=3)
            assert {series["metric"]["job"] for series in up} == jobs.keys()
            (gain,) = running.wait_for('driftline:live_auc_gain{group="monitoring-test"}')
            assert float(gain["value"][1]) == pytest.approx(0.05)
