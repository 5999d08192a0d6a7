"""Every alert is seen firing in its fault and silent in a healthy run, by Prometheus' own rule tests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.streaming.monitoring.faults import CASES, FAULT_AT, FAULTS, HEALTHY, MINUTES, Fault, steady
from tests.streaming.monitoring.prometheus_server import RULES, alerts, rules, tool


def firing(series: Mapping[str, str], folder: Path, minutes: int) -> set[str]:
    """Names of the alerts that fired at any time in the first `minutes` of a run with these series."""
    asked = f"count by (alertname) (count_over_time(ALERTS{{alertstate='firing'}}[{minutes}m]))"
    case: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": asked,
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": '{alertname="?"}', "value": 1}],
                    }
                ],
            }
        ],
    }
    path = folder / f"case-{minutes}.yml"
    path.write_text(yaml.safe_dump(case))
    done = subprocess.run([tool("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert "got:" in output, output  # the expectation cannot be met: promtool says what it got instead
    return set(re.findall(r'alertname="(\w+)"', output.partition("got:")[2]))


def test_every_alert_has_a_fault_and_every_fault_an_alert() -> None:
    assert FAULTS.keys() == alerts().keys(), "give each alert a fault in FAULTS in which it is seen firing"


def test_the_healthy_run_has_every_series_that_an_alert_reads() -> None:
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    looked_at = " ".join(alerts().values())
    looked_at += " ".join(expr for name, expr in recorded.items() if name in looked_at)
    names = set(re.findall(r"\bdriftline_\w+", looked_at))
    healthy = {series.partition("{")[0] for series in HEALTHY}
    only_in_faults = {series.partition("{")[0] for _, _, fault in CASES for series in fault.series} - healthy
    assert names <= healthy | only_in_faults


def test_no_alert_fires_in_a_healthy_run(tmp_path: Path) -> None:
    assert firing(HEALTHY, tmp_path, MINUTES) == set()


def test_orders_of_an_operator_fire_no_alert(tmp_path: Path) -> None:
    stopped = FAULTS["DriftlineLearningStopped"][0].input() | {'driftline_learning_stopped{group="main"}': steady(1)}
    assert "DriftlineLearningStopped" not in firing(stopped, tmp_path, MINUTES)
    pinned = FAULTS["DriftlineStale"][1].input() | {'driftline_kernel_frozen{group="main"}': steady(1)}
    assert "DriftlineStale" not in firing(pinned, tmp_path, MINUTES)


@pytest.mark.parametrize(("alert", "number", "fault"), CASES, ids=[f"{alert}-{number}" for alert, number, _ in CASES])
def test_an_alert_fires_in_its_fault(alert: str, number: int, fault: Fault, tmp_path: Path) -> None:
    assert alert in firing(fault.input(), tmp_path, MINUTES)
    if not fault.gone:
        assert alert not in firing(fault.input(), tmp_path, FAULT_AT - 2), "it fires before its fault"
