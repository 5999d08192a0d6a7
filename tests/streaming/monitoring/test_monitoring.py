"""Prometheus' configuration and rules, and the Grafana dashboard: against our metrics, and on the real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from streaming.monitoring import metrics
from streaming.monitoring.health import HealthServer

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "streaming" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "driftline.json"


def tool(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path=str(ROOT / ".tools" / "usr" / "bin"))
    if path is None:
        pytest.skip(f"{name} is not installed (the Debian package `prometheus` has it; `.ci/run` unpacks it)")
    return path


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def _dashboard_expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    shaded = [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    return [target["expr"] for panel in _panels() for target in panel["targets"]] + shaded


def _expressions() -> list[str]:
    return [rule["expr"] for rule in _rules()] + _dashboard_expressions()


def _declared() -> dict[str, set[str]]:
    """Every sample name that streaming.monitoring.metrics can expose, with the labels of its metric."""
    names: dict[str, set[str]] = {}
    for collector, samples in REGISTRY._collector_to_names.items():
        for name in samples:
            if name.startswith("driftline_"):
                names[name] = set(getattr(collector, "_labelnames", ()))
    assert "driftline_freshness_seconds_bucket" in names, "streaming.monitoring.metrics is not what it was"
    return names


def test_every_metric_in_rules_and_dashboard_is_declared() -> None:
    used = {name for expr in _expressions() for name in re.findall(r"\bdriftline_\w+", expr)}
    assert len(used) > 20
    assert used - _declared().keys() == set()


def test_every_declared_metric_is_shown_on_the_dashboard() -> None:
    """A metric that nobody can see is not worth its cost; recorded rules count as shown where they are."""
    recorded = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
    shown = " ".join(_dashboard_expressions())
    shown += " ".join(expr for record, expr in recorded.items() if record in shown)
    declared = {family.name for family in REGISTRY.collect() if family.name.startswith("driftline_")}
    assert {name for name in declared if name not in shown} == set()


def test_every_recorded_name_that_is_used_is_recorded() -> None:
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    used = {name for expr in _expressions() for name in re.findall(r"\bdriftline:[\w:]+", expr)}
    assert used == recorded


def test_matchers_and_legends_name_labels_the_metrics_have() -> None:
    declared = _declared()
    for expr in _expressions():
        for name, matchers in re.findall(r"\b(driftline_\w+)\{([^}]*)\}", expr):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert labels <= declared[name], expr


def test_announced_drift_shades_every_panel() -> None:
    (annotation,) = json.loads(DASHBOARD.read_text())["annotations"]["list"]
    assert annotation["enable"] and annotation["datasource"] == _panels()[0]["datasource"]
    assert set(re.findall(r"\bdriftline_\w+", annotation["expr"])) == {"driftline_drift_announced"}
    assert set(re.findall(r"{{(\w+)}}", annotation["titleFormat"])) <= _declared()["driftline_drift_announced"]


def test_alerts_say_what_and_what_to_do() -> None:
    alerts = [rule for rule in _rules() if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "warn"}, alert["alert"]
        assert {"summary", "description"} <= alert["annotations"].keys(), alert["alert"]


def test_every_alert_has_its_place_in_the_page_of_failures() -> None:
    page = (ROOT / "docs" / "failures.md").read_text()
    missing = {rule["alert"] for rule in _rules() if "alert" in rule and rule["alert"] not in page}
    assert missing == set()


def test_panels_have_title_description_unit_and_the_provisioned_source() -> None:
    provisioned = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    uids = {source["uid"] for source in provisioned}
    for panel in _panels():
        assert panel["title"] and panel["description"], panel["id"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        used = {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])}
        assert used <= uids, panel["title"]


def test_panels_have_their_own_ids_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not own & cells, panel["title"]
        cells |= own


def test_promtool_accepts_configuration_rules_and_every_panel(tmp_path: Path) -> None:
    promtool = tool("promtool")
    panels = [
        {"record": f"panel:{i}", "expr": expr.replace("$group", "main")}
        for i, expr in enumerate(_dashboard_expressions())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    for command in (
        ["check", "config", str(MONITORING / "prometheus.yml")],
        ["check", "rules", str(MONITORING / "rules.yml"), str(tmp_path / "panels.yml")],
    ):
        result = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config_for(targets: dict[str, int], folder: Path) -> Path:
    """The shipped configuration with the names of compose replaced by local addresses, and scrapes each second."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
    shutil.copy(MONITORING / "rules.yml", folder)
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[str]:
    """Address of a real Prometheus that scrapes this process's registry under each of the three jobs."""
    binary, port = tool("prometheus"), _free_port()
    with HealthServer("127.0.0.1", 0, {}) as target:
        config = _config_for(dict.fromkeys(("ingest", "processor", "scorer"), target.port), tmp_path)
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(20)


def _query(address: str, expr: str, wanted: int) -> list[dict[str, Any]]:
    """The result once it holds `wanted` series; fails after half a minute."""
    deadline, url = time.monotonic() + 30, f"{address}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
    series: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                series = json.load(answer)["data"]["result"]
        except OSError:
            series = []
        if len(series) >= wanted:
            return series
        time.sleep(0.2)
    pytest.fail(f"{expr} gave {series}")


@pytest.mark.slow
def test_a_real_prometheus_scrapes_every_job_and_records(scraped: str) -> None:
    for arm, value in (("frozen", 0.70), ("live", 0.75)):
        metrics.ARM_AUC.labels(group="monitoring-test", arm=arm).set(value)
    up = _query(scraped, "up == 1", wanted=3)
    assert {series["metric"]["job"] for series in up} == {"ingest", "processor", "scorer"}
    gain = _query(scraped, 'driftline:live_auc_gain{group="monitoring-test"}', wanted=1)
    assert float(gain[0]["value"][1]) == pytest.approx(0.05)
