"""Who owns a group changes, and who holds the log: processors come and go, a broker of three dies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from local.watchdog import Watchdog
from model.config import DomainConfig
from streaming.clients import make_admin
from streaming.config import Config, GroupConfig
from streaming.topics import ensure_topics
from tests.chaos.conftest import Tell, only_long
from tests.chaos.log_reader import committed, labels_of, read_topic
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


def labelled(config: Config) -> int:
    """Examples that the records of traffic give, whether or not the users of a proof saw their impressions."""
    return len(labels_of(config, read_topic(config, config.topics.traffic)).learned)


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
        old = labelled(stack.config)
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
        clicks, _, _ = check_labels(stack.config, truth, read_topic(stack.config, stack.config.topics.traffic))
        new = labelled(stack.config)
        # What was learned before is kept, and the new records come on top, but for a micro-batch that still fills.
        learned = stored.snapshot.examples
        assert before.snapshot.examples + new - stack.config.learner.batch_examples <= learned
        # Nothing is learned twice. A micro-batch that was filling before may have been learned until the topic went.
        assert learned <= old + new
        tell("traffic deleted and made anew", f"{new} new examples, {clicks} clicks in time, none lost")
