"""Every query of every dashboard gives data on a real Prometheus once there is something to tell, good or bad.

On the processes of a real run: `tests/chaos/test_panels.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from local.demo.settings import free_ports
from tests.streaming.monitoring.prometheus_server import ROOT, RULES, prometheus
from tests.streaming.monitoring.queries import asked


@pytest.mark.slow
def test_every_query_returns_data_after_a_run_with_every_event(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    at_once = re.sub(r"^ +for: .*\n", "", RULES.read_text(), flags=re.M)
    command = [sys.executable, "-m", "tests.streaming.monitoring.exporter", str(port)]
    with subprocess.Popen(command, cwd=ROOT) as exporter:
        try:
            jobs = {job: [port] for job in ("ingest", "processor", "scorer")}
            with prometheus(tmp_path, at_once, jobs) as running:
                running.wait_for('ALERTS{alertstate="firing"}')
                for query in asked():
                    assert running.wait_for(query.ready), query
        finally:
            exporter.terminate()
