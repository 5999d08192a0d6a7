"""Alerts on the whole stack: a real Prometheus scrapes real processes, and the shipped rules fire when one hangs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from local.demo.settings import free_ports
from local.probe import get
from tests.chaos.conftest import Tell
from tests.chaos.stack import Stack
from tests.chaos.verdicts import check_all
from tests.streaming.monitoring.test_monitoring import MONITORING, tool

MINUTE_S = 2
"""The shipped windows and waits are minutes; here a minute passes in so many seconds."""
SILENT_WHEN_WELL = {
    "DriftlineProcessDown",
    "DriftlineLearningStopped",
    "DriftlineStale",
    "DriftlineWatermarkStands",
    "DriftlineWatermarkAhead",
    "DriftlineTaskDied",
    "DriftlineCommitsFailing",
    "DriftlineScoringFails",
}


def quick(rules: str) -> str:
    """The shipped rules with every window and wait shortened."""
    rules = re.sub(r"\[(\d+)m\]", lambda found: f"[{max(5, MINUTE_S * int(found[1]))}s]", rules)
    return re.sub(r"for: (\d+)m", lambda found: f"for: {MINUTE_S * int(found[1])}s", rules)


@contextmanager
def prometheus(stack: Stack, folder: Path) -> Iterator[str]:
    """Address of a Prometheus that scrapes the stack's members each second."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{m.port}" for m in stack.of(job["job_name"])]}]
    (folder / "rules.yml").write_text(quick((MONITORING / "rules.yml").read_text()))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def asked(address: str, query: str) -> list[dict[str, str]]:
    """Labels of the series that Prometheus has of a query now; none while it does not answer yet."""
    try:
        found = json.loads(get(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    except OSError:
        return []
    return [series["metric"] for series in found["data"]["result"]]


def firing(address: str) -> set[str]:
    """Alerts that fire now."""
    return {series["alertname"] for series in asked(address, 'ALERTS{alertstate="firing"}')}


def test_alerts_fire_while_a_processor_hangs_and_end_when_it_goes_on(stack: Stack, tmp_path: Path, tell: Tell) -> None:
    tool("prometheus")  # or skips, before anybody asks for anything
    driver = stack.drive(seed=15)
    with prometheus(stack, tmp_path) as address:
        stack.wait_until(lambda: len(asked(address, "up == 1")) == len(stack.members), "every process is scraped")
        stack.answered(driver, 300)
        well = firing(address)
        process = stack.members["processor-1"].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        wanted = {"DriftlineProcessDown", "DriftlineLearningStopped"}
        stack.wait_until(lambda: wanted <= firing(address), f"{wanted} fire")
        process.send_signal(signal.SIGCONT)
        stack.wait_until(lambda: not wanted & firing(address), f"{wanted} end")
    assert not well & SILENT_WHEN_WELL
    seen = check_all(stack.config, driver.stop())
    tell(
        "a processor stood still under the shipped rules, minutes shortened",
        f"{', '.join(sorted(wanted))} fired, then ended; {seen}",
    )
