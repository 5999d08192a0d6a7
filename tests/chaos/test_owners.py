"""Who owns a group changes, and who holds the log: processors come and go, a broker of three dies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from local.watchdog import Watchdog
from streaming.config import GroupConfig
from tests.chaos.conftest import Tell, only_long
from tests.chaos.stack import Stack, made_stack
from tests.chaos.verdicts import check_all

GROUPS = ("day", "night", "other")


def owned(stack: Stack) -> dict[str, int]:
    """Groups that each running processor owns."""
    return {
        member.name: int(stack.metrics(member.name).total("driftline_owned_groups"))
        for member in stack.of("processor")
        if member.ready
    }


@only_long
@pytest.mark.timeout(1_800)
def test_groups_go_from_one_processor_to_three_and_back_with_nothing_lost(
    tmp_path: Path, watchdog: Watchdog, tell: Tell
) -> None:
    groups = tuple(GroupConfig(name=name, period=() if name == "other" else (name,)) for name in GROUPS)
    with made_stack(tmp_path / "run", watchdog, groups=groups) as stack:
        for role in ("ingest", "processor", "scorer"):
            stack.add(role)
        stack.wait_ready()
        driver = stack.drive(seed=12)
        stack.answered(driver, 50)
        for _ in range(2):
            stack.add("processor")
        stack.wait_ready()
        stack.wait_until(lambda: list(owned(stack).values()) == [1, 1, 1], "each of three owns one group")
        stack.answered(driver, 100)
        stack.end("processor-2")
        stack.kill("processor-3")
        stack.wait_until(lambda: owned(stack) == {"processor-1": 3}, "one owns all again")
        stack.answered(driver, 50)
        truth = driver.stop()
        tell("1, 3, 1 processors for three groups", "; ".join(check_all(stack.config, truth, name) for name in GROUPS))


@only_long
@pytest.mark.timeout(1_800)
def test_three_brokers_of_which_one_dies_lose_nothing(tmp_path: Path, watchdog: Watchdog, tell: Tell) -> None:
    with made_stack(tmp_path / "run", watchdog, nodes=3) as stack:
        for role in ("ingest", "processor", "scorer"):
            stack.add(role)
        stack.wait_ready()
        driver = stack.drive(seed=13)
        stack.answered(driver, 50)
        for broker in stack.brokers:
            broker.kill()
            stack.answered(driver, 50)
            broker.start()
            time.sleep(10)  # it catches up before the next one dies
        tell("each of three brokers killed in turn, two left", check_all(stack.config, driver.stop()))
