"""Every alert is seen firing in its fault, and none in a healthy hour, on a real Prometheus with the shipped rules.

The past is backfilled. Windows are as shipped; only the waits (`for`) are taken out, which promtool's tests keep.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.streaming.monitoring.backfill import backfill, backfill_records, sample_values
from tests.streaming.monitoring.declared import recorded
from tests.streaming.monitoring.faults import CASES, FAULT_AT, HEALTHY, MINUTES, Fault
from tests.streaming.monitoring.prometheus_server import RULES, alerts, prometheus

pytestmark = [pytest.mark.slow]

AT_ONCE = re.sub(r"^ +for: .*\n", "", RULES.read_text(), flags=re.M)
PAST_OF_A_RECORD = re.compile(r"driftline:[\w:]+\[")


def written_out(expr: str) -> str:
    """With every recorded name replaced by its expression: the past need not have been recorded."""
    for record, own in recorded().items():
        expr = re.sub(rf"{record}\[(\w+)\]", lambda found, own=own: f"({own})[{found[1]}:1m]", expr)  # type: ignore[misc]
        expr = re.sub(rf"{record}(?![\w:])", lambda _, own=own: f"({own})", expr)  # type: ignore[misc]
    return expr


def test_the_notation_is_read_as_promtool_reads_it() -> None:
    assert list(sample_values("1x2 2+3x2 _x2 7")) == [1, 1, 1, 2, 5, 8, None, None, 7]


def test_no_alert_holds_at_any_moment_of_a_healthy_hour(tmp_path: Path) -> None:
    now = time.time()
    backfill(HEALTHY, MINUTES, now, tmp_path)
    with prometheus(tmp_path, AT_ONCE) as running:
        assert running.wait_for("driftline_verdict")
        for alert, expr in alerts().items():
            held = running.over(written_out(expr), now - 60 * (MINUTES - 5), now - 60, 15)
            assert not held, f"{alert} holds in a healthy hour: {held}"
        running.wait_for("driftline:verdict_code")
        assert running.firing() == set()


@pytest.mark.parametrize(("alert", "number", "fault"), CASES, ids=[f"{alert}-{number}" for alert, number, _ in CASES])
def test_an_alert_fires_in_its_fault(alert: str, number: int, fault: Fault, tmp_path: Path) -> None:
    now, minutes = time.time(), FAULT_AT + fault.seen_after
    backfill(fault.input(), minutes, now, tmp_path)
    if PAST_OF_A_RECORD.search(alerts()[alert]):
        with prometheus(tmp_path, AT_ONCE) as before:
            backfill_records(before, minutes - 1, now - 60, tmp_path)
    with prometheus(tmp_path, AT_ONCE) as running:
        running.wait_for(f'ALERTS{{alertname="{alert}",alertstate="firing"}}')
