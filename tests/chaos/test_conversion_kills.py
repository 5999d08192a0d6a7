"""The same kills where clicks convert, on a stack of its own: any test process can run it (tests/conftest.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.watchdog import Watchdog
from model.config import BackboneConfig
from tests.chaos.conftest import Sizes, Tell
from tests.chaos.kills import kill_all, kill_and_start
from tests.chaos.log_reader import read_topic
from tests.chaos.stack import Stack, made_stack, small_config
from tests.chaos.verdicts import check_all, check_conversions, settled

CONVERSION_WINDOW_S = 30.0


@pytest.mark.timeout(6 * 3_600)
def test_kills_lose_no_conversion_and_give_the_kernel_of_an_undisturbed_run(
    tmp_path: Path, watchdog: Watchdog, sizes: Sizes, tell: Tell
) -> None:
    """Killed while clicks wait for their conversions, and again while those mature and are learned."""
    join = small_config(tmp_path, [], "").join
    # Longer than a busy machine takes for a click, or the gate would set aside what is late.
    waits = {"window_s": 6.0, "horizon_s": CONVERSION_WINDOW_S, "conversion_window_s": CONVERSION_WINDOW_S}
    sections: dict[str, Any] = {"join": join.model_copy(update=waits), "backbone": BackboneConfig(tasks="ctr_ctcvr")}
    with made_stack(tmp_path / "run", watchdog, **sections) as stack:
        for role in ("ingest", "processor", "scorer"):
            stack.add(role)
        stack.wait_ready()
        driver = stack.drive(seed=21, rate=10.0, patient=True)
        done = kill_all(stack, sizes.rounds, seed=22)
        stack.wait_until(lambda: learned_conversions(stack) > 0, "the first conversions are learned")
        for _ in range(2):
            kill_and_start(stack, "processor-1", 0.0)
            stack.wait_ready()
            stack.answered(driver, 50)
        truth = driver.stop()
        result = check_all(stack.config, truth)
        stored = settled(stack.config, max(shown.time for shown in truth.shown.values()))
        records = read_topic(stack.config, stack.config.topics.traffic, 0)
        later, learned = check_conversions(stack.config, truth, stored, records)
        assert later, "none came behind the labels: little is shown"
        tell(f"{done}; 2 more of processor-1", f"{result}; {learned} conversions, {later} of them behind the labels")


def learned_conversions(stack: Stack) -> float:
    """Clicks that the conversion task has learned since the processor began."""
    try:
        return stack.metrics("processor-1").total("driftline_conversion_examples_learned_total")
    except OSError:
        return 0.0
