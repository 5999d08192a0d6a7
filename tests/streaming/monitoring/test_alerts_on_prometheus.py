"""Every alert holds in its fault, and none in a healthy hour, on a real Prometheus with the shipped rules.

The past is backfilled: one Prometheus has every fault, each in hours of its own. Windows are as shipped; only the waits
(`for`) are taken out, which promtool's tests keep.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.streaming.monitoring.backfill import backfill, sample_values
from tests.streaming.monitoring.declared import recorded
from tests.streaming.monitoring.faults import CASES, FAULT_AT, HEALTHY, MINUTES
from tests.streaming.monitoring.prometheus_server import RULES, Prometheus, alerts, prometheus, tool

pytestmark = [pytest.mark.slow]

AT_ONCE = re.sub(r"^ +for: .*\n", "", RULES.read_text(), flags=re.M)
APART_S = 26 * 3_600
"""From one fault to the next: longer than a fault with the longest window of a rule, which is a day."""

Faults = tuple[Prometheus, Mapping[tuple[str, int], float]]
"""One that runs, and when each fault is seen, s since the epoch, by alert and number."""


def written_out(expr: str) -> str:
    """With every recorded name replaced by its expression, because the past need not have been recorded.

    The last first: a rule may read those before it.
    """
    for record, own in reversed(recorded().items()):
        expr = re.sub(rf"{record}\[(\w+)\]", lambda found, own=own: f"({own})[{found[1]}:1m]", expr)  # type: ignore[misc]
        expr = re.sub(rf"{record}(?![\w:])", lambda _, own=own: f"({own})", expr)  # type: ignore[misc]
    return expr


def test_the_series_notation_is_parsed_as_by_promtool() -> None:
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


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    tool("promtool")  # or skips
    folder, now = tmp_path_factory.mktemp("faults"), time.time()
    seen = {(alert, number): now - APART_S * place for place, (alert, number, _) in enumerate(CASES, 1)}
    for alert, number, fault in CASES:
        backfill(fault.input(), FAULT_AT + fault.seen_after, seen[alert, number], folder)
    with prometheus(folder, AT_ONCE) as running:
        yield running, seen


@pytest.mark.parametrize(("alert", "number"), [case[:2] for case in CASES])
def test_an_alert_holds_in_its_fault(alert: str, number: int, faults: Faults) -> None:
    running, seen = faults
    at = seen[alert, number]
    assert running.over(written_out(alerts()[alert]), at - 30, at + 30, 5)
