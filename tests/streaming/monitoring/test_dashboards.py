"""Grafana's dashboards: what their code makes, against our metrics and Grafana's own model of a dashboard."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from model.drift.appearance import APPEARANCES
from model.drift.verdict import VerdictKind
from streaming.monitoring.catalogue import entries
from streaming.monitoring.dashboards.files import FOLDER, texts
from tests.streaming.monitoring.declared import declared, matchers_in, metrics_in, recorded, records_in
from tests.streaming.monitoring.prometheus_server import MONITORING, rules, tool
from tests.streaming.monitoring.queries import PanelQuery, asked, dashboards

PANELS = [(name, panel) for name, whole in dashboards().items() for panel in whole["panels"] if panel["type"] != "row"]


def test_the_dashboard_files_are_generated_by_the_code() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert files == texts(), "run: make dashboards"


@pytest.mark.parametrize("query", asked(), ids=str)
def test_a_query_names_only_metrics_labels_and_records_that_exist(query: PanelQuery) -> None:
    names = declared()
    assert metrics_in(query.expr) <= names.keys()
    assert records_in(query.expr) <= recorded().keys()
    for name, labels in matchers_in(query.expr):
        assert labels <= names[name]


def test_every_metric_and_every_recording_rule_is_on_a_panel() -> None:
    """A metric that nobody can see is not worth its cost; recorded rules count as shown where they are."""
    shown = " ".join(query.expr for query in asked())
    used = {name for rule in rules() if "alert" in rule for name in records_in(rule["expr"])}
    assert recorded().keys() == records_in(shown) | used
    shown += " ".join(expr for record, expr in recorded().items() if record in shown)
    assert {entry.name for entry in entries() if entry.name not in shown} == set()


@pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=lambda panel: panel["title"])
def test_a_panel_has_a_description_a_unit_and_the_provisioned_data_source(panel: dict[str, Any]) -> None:
    provisioned = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uids = {source["uid"] for source in provisioned["datasources"]}
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} <= uids


@pytest.mark.parametrize("name", dashboards())
def test_panels_have_unique_ids_fill_their_rows_and_do_not_overlap(name: str) -> None:
    panels = dashboards()[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not own & cells, panel["title"]
        cells |= own
    height = max(y for _, y in cells) + 1
    assert len(cells) == 24 * height, "a gap between panels"


@pytest.mark.parametrize("name", dashboards())
def test_every_key_of_a_dashboard_is_valid_in_the_grafana_schema(name: str) -> None:
    """Read by the model that Grafana's SDK makes from its schema, and written again, nothing is lost but annotation
    keys that are the data source's own.
    """
    register_default_plugins()
    whole = dashboards()[name]
    again = json.loads(json.dumps(Dashboard.from_json(whole), cls=JSONEncoder))
    for annotation in whole["annotations"]["list"]:
        del annotation["titleFormat"], annotation["step"]
    assert again == whole


def test_the_dashboards_link_to_each_other_and_have_unique_ids() -> None:
    held = dashboards().values()
    assert len({whole["uid"] for whole in held}) == len(held) == 4
    for whole in held:
        (link,) = whole["links"]
        assert set(link["tags"]) <= set(whole["tags"]) and link["includeVars"] and link["keepTime"]


def test_announced_drift_annotates_every_panel_and_kernel_versions_those_of_learning() -> None:
    marks = {name: {mark["name"] for mark in whole["annotations"]["list"]} for name, whole in dashboards().items()}
    assert all("Announced drift" in names for names in marks.values())
    assert "Kernel versions" in marks["learning"] and "Verdicts" in marks["drift"]


def test_every_verdict_has_a_label_on_the_timeline_and_its_number_in_the_rules() -> None:
    timeline = next(panel for _, panel in PANELS if panel["title"] == "Verdicts by domain")
    words = timeline["fieldConfig"]["defaults"]["mappings"][0]["options"]
    rule = recorded()["driftline:verdict_code"]
    assert set(APPEARANCES) == set(VerdictKind)
    for code, (verdict, shown) in enumerate(APPEARANCES.items()):
        assert (words[str(code)]["text"], words[str(code)]["color"]) == (shown.name, shown.colour)
        assert f'{code} * driftline_verdict{{verdict="{verdict}"}}' in rule


def test_promtool_accepts_every_query(tmp_path: Path) -> None:
    records = [{"record": f"panel:{place}", "expr": query.ready} for place, query in enumerate(asked())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    done = subprocess.run([tool("promtool"), "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
