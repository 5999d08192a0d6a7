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


def firing(series: Mapping[str, str], folder: Path, *minutes: int) -> list[set[str]]:
    """For each of `minutes`, the names of the alerts that fired up to then at any time of a run with these series."""
    asked = "count by (alertname) (count_over_time(ALERTS{{alertstate='firing'}}[{}m]))"
    case: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": asked.format(end),
                        "eval_time": f"{end}m",
                        "exp_samples": [{"labels": '{alertname="?"}', "value": 1}],
                    }
                    for end in minutes
                ],
            }
        ],
    }
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump(case))
    done = subprocess.run([tool("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    # The expectations cannot be met: promtool says, in their order, what it got instead.
    answers = output.split("got:")[1:]
    assert len(answers) == len(minutes), output
    return [set(re.findall(r'alertname="(\w+)"', answer.partition("expr:")[0])) for answer in answers]


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
    assert firing(HEALTHY, tmp_path, MINUTES) == [set()]


def test_orders_of_an_operator_fire_no_alert(tmp_path: Path) -> None:
    stopped = FAULTS["DriftlineLearningStopped"][0].input() | {'driftline_learning_stopped{group="main"}': steady(1)}
    assert "DriftlineLearningStopped" not in firing(stopped, tmp_path, MINUTES)[0]
    pinned = FAULTS["DriftlineStale"][1].input() | {'driftline_kernel_frozen{group="main"}': steady(1)}
    assert "DriftlineStale" not in firing(pinned, tmp_path, MINUTES)[0]


@pytest.mark.parametrize(("alert", "number", "fault"), CASES, ids=[f"{alert}-{number}" for alert, number, _ in CASES])
def test_an_alert_fires_in_its_fault(alert: str, number: int, fault: Fault, tmp_path: Path) -> None:
    before, until_the_end = firing(fault.input(), tmp_path, FAULT_AT - 2, MINUTES)
    assert alert in until_the_end
    if not fault.gone:
        assert alert not in before, "it fires before its fault"
