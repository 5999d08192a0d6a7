"""Alerts on the whole stack: a real Prometheus scrapes real processes, and the shipped rules fire when one hangs."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.chaos.conftest import Tell
from tests.chaos.stack import ROLES, Stack
from tests.chaos.verdicts import check_all
from tests.streaming.monitoring.prometheus_server import RULES, prometheus, tool

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


def ports(stack: Stack) -> dict[str, list[int]]:
    """Of the stack's members, by role."""
    return {role: [member.port for member in stack.of(role)] for role in ROLES}


def test_alerts_fire_while_a_processor_hangs_and_resolve_when_it_continues(
    stack: Stack, tmp_path: Path, tell: Tell
) -> None:
    tool("prometheus")  # or skips, before anybody asks for anything
    driver = stack.drive(seed=15)
    with prometheus(tmp_path, quick(RULES.read_text()), ports(stack)) as running:
        stack.wait_until(lambda: len(running.query("up == 1")) == len(stack.members), "every process is scraped")
        stack.answered(driver, 300)
        well = running.firing()
        process = stack.members["processor-1"].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        wanted = {"DriftlineProcessDown", "DriftlineLearningStopped"}
        stack.wait_until(lambda: wanted <= running.firing(), f"{wanted} fire")
        process.send_signal(signal.SIGCONT)
        stack.wait_until(lambda: not SILENT_WHEN_WELL & running.firing(), f"{wanted} and all others end")
    assert not well & SILENT_WHEN_WELL
    seen = check_all(stack.config, driver.stop())
    tell(
        "a processor stood still under the shipped rules, minutes shortened",
        f"{', '.join(sorted(wanted))} fired, then ended; {seen}",
    )
