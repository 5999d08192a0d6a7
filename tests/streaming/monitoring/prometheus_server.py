"""The real Prometheus and its promtool for tests: Debian's package, which `.ci/run` unpacks into `.tools`."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.demo.settings import free_ports

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "streaming" / "monitoring"
RULES = MONITORING / "rules.yml"


def tool(name: str) -> str:
    """Path of `prometheus` or `promtool`; skips without it."""
    path = shutil.which(name) or shutil.which(name, path=str(ROOT / ".tools" / "usr" / "bin"))
    if path is None:
        pytest.skip(f"{name} is not installed (the Debian package `prometheus` has it; `.ci/run` unpacks it)")
    return path


def rules() -> list[dict[str, Any]]:
    """Every shipped rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, str]:
    """Every shipped alert with its expression."""
    return {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    address: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Series that have a value now."""
        return self._ask("query", {"query": expr})

    def over(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Series with their values between two times, s since the epoch."""
        return self._ask("query_range", {"query": expr, "start": start, "end": end, "step": step})

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {series["metric"]["alertname"] for series in self.query('ALERTS{alertstate="firing"}')}

    def wait_for(self, expr: str, wanted: int = 1) -> list[dict[str, Any]]:
        """The series once there are `wanted` of them; fails after two minutes."""
        deadline = time.monotonic() + 120
        while len(series := self.query(expr)) < wanted:
            if time.monotonic() > deadline:
                pytest.fail(f"{expr} gave {series}")
            time.sleep(0.2)
        return series

    def _ask(self, what: str, values: Mapping[str, str | float]) -> list[dict[str, Any]]:
        try:
            url = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(values)}"
            with urllib.request.urlopen(url, timeout=20) as response:
                found: list[dict[str, Any]] = json.load(response)["data"]["result"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"Prometheus refuses {values['query']}: {error.read().decode()}")
        return found


@contextmanager
def prometheus(folder: Path, rule_text: str, targets: Mapping[str, list[int]] | None = None) -> Iterator[Prometheus]:
    """Prometheus with these rules and the data in `folder / "data"`, evaluating each second.

    `targets` are the local ports of the shipped configuration's jobs, scraped each second; without them nothing is.
    """
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{p}" for p in (targets or {}).get(job["job_name"], [])]}]
    (folder / "rules.yml").write_text(rule_text)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=1y",  # a test may have put data into a long past
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_ready(f"http://127.0.0.1:{port}", process, folder / "log")
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def _wait_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/-/ready", timeout=2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"Prometheus does not become ready:\n{log.read_text()[-2_000:]}")
