"""Who owns a group changes, and who holds the log: processors come and go, a broker of three dies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from local.watchdog import Watchdog
from model.config import DomainConfig
from streaming.clients import make_admin
from streaming.config import GroupConfig
from streaming.topics import ensure_topics
from tests.chaos.conftest import Tell, only_long
from tests.chaos.log_reader import committed, read_topic
from tests.chaos.stack import Stack, made_stack
from tests.chaos.verdicts import check_all, check_labels, settled

GROUPS = ("day", "evening", "night")


def owned(stack: Stack) -> dict[str, int]:
    """Groups that each running processor owns."""
    return {
        member.name: int(stack.metrics(member.name).total("driftline_owned_groups"))
        for member in stack.of("processor")
        if member.ready
    }


@only_long
@pytest.mark.timeout(1_800)
def test_rebalancing_from_one_processor_to_three_and_back_loses_nothing(
    tmp_path: Path, watchdog: Watchdog, tell: Tell
) -> None:
    groups = tuple(GroupConfig(name=name, period=(name,)) for name in GROUPS)
    domains = DomainConfig(scene=("home",), region=(), period=GROUPS)
    with made_stack(tmp_path / "run", watchdog, groups=groups, domains=domains) as stack:
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
def test_losing_one_of_three_brokers_loses_no_record(tmp_path: Path, watchdog: Watchdog, tell: Tell) -> None:
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


@only_long
@pytest.mark.timeout(1_800)
def test_a_deleted_and_recreated_topic_is_learned_from(tmp_path: Path, watchdog: Watchdog, tell: Tell) -> None:
    with made_stack(tmp_path / "run", watchdog) as stack:
        for role in ("ingest", "processor", "scorer"):
            stack.add(role)
        stack.wait_ready()
        driver = stack.drive(seed=16)
        stack.answered(driver, 50)
        check_all(stack.config, driver.stop())
        before = committed(stack.config)
        assert before is not None
        with make_admin(stack.config.kafka) as admin:
            admin.delete_topics([stack.config.topics.traffic])
        time.sleep(5)
        ensure_topics(stack.config)
        processor = stack.members["processor-1"]
        stack.wait_until(lambda: not processor.alive, "the processor sees that its topic is another one, and ends")
        stack.mend()
        driver = stack.drive(seed=17)
        stack.answered(driver, 50)
        truth = driver.stop()
        stored = settled(stack.config, max(shown.time for shown in truth.shown.values()))
        clicks, _, examples = check_labels(stack.config, truth, read_topic(stack.config, stack.config.topics.traffic))
        # What was learned before is kept, and the new records come on top, but for a micro-batch that still fills.
        still_to_learn = before.snapshot.examples + examples - stored.snapshot.examples
        assert 0 <= still_to_learn <= stack.config.learner.batch_examples
        tell("traffic deleted and made anew", f"{examples} new examples, {clicks} clicks in time, none lost")
