"""Operators' orders on the real broker: every scorer applies them, also one that starts later."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from rich.console import Console
from typer.testing import CliRunner

from local.control.command import app
from local.control.uplift import print_uplift
from model.backbone.foundation import FoundationBackbone
from model.uplift import Effect, UpliftLook
from streaming.clients import aiokafka_options
from streaming.config import Config, GroupConfig
from streaming.control.history import ControlError, read_history, version_before, version_of
from streaming.control.orders import Operator, read_decisions, read_order
from streaming.events import LearningOrder, decode_traffic
from streaming.events.decisions import Decision, encode_decision
from streaming.kernel_log.keys import kernel_key
from streaming.topic_scan import scan
from streaming.topics import ensure_topics
from tests.streaming.scorer.running_scorer import Running, running
from tests.streaming.scorer.scoring_parts import make_backbone, packed


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


@pytest.fixture
def config(stream_config: Config) -> Config:
    config = stream_config.model_copy(update={"groups": (GroupConfig(name="main"),)})
    ensure_topics(config)
    return config


async def publish(config: Config, backbone: FoundationBackbone, *versions: int) -> None:
    """What a commit writes: each kernel to the log and to the history."""
    async with AIOKafkaProducer(**aiokafka_options(config.kafka), acks="all") as producer:
        for version in versions:
            for topic in (config.topics.kernels, config.topics.history):
                await producer.send_and_wait(topic, packed(backbone, version), key=kernel_key("main"), partition=0)


@asynccontextmanager
async def two_scorers(config: Config, backbone: FoundationBackbone) -> AsyncIterator[list[Running]]:
    async with AsyncExitStack() as stack:
        scorers = [await stack.enter_async_context(running(config, backbone)) for _ in range(2)]
        for scorer in scorers:
            await scorer.ready()
        yield scorers


async def test_every_scorer_applies_an_order_and_a_later_one_before_it_is_ready(
    config: Config, backbone: FoundationBackbone
) -> None:
    await publish(config, backbone, 1, 2, 3)
    operator = Operator(config, "ann", "version 3 looks odd")
    async with two_scorers(config, backbone) as scorers:
        history = await asyncio.to_thread(read_history, config, "main")
        await asyncio.to_thread(operator.pin, "main", version_before(history, 3), kind="rollback")
        for scorer in scorers:
            await scorer.version(2)
            assert (await scorer.score())["kernel_version"] == 2
    await publish(config, backbone, 4)
    async with two_scorers(config, backbone) as scorers:
        for scorer in scorers:
            assert (await scorer.score())["kernel_version"] == 2
            kernels = (await scorer.client.get("/v1/kernels")).json()["current"][0]
            assert (kernels["pinned"], kernels["published"], kernels["by"]) == (2, 4, "ann")
        await asyncio.to_thread(operator.freeze, "main")
        for scorer in scorers:
            await scorer.version(0)
        await asyncio.to_thread(operator.resume, "main")
        for scorer in scorers:
            await scorer.version(4)
    decisions = await asyncio.to_thread(read_decisions, config, "main")
    assert [decision.kind for decision in decisions] == ["rollback", "freeze", "resume"]
    assert {(decision.by, decision.detail["why"]) for decision in decisions} == {("ann", "version 3 looks odd")}
    assert decisions[0].detail["version"] == 2


async def test_a_pin_stays_applied_after_its_kernel_has_left_the_history(
    config: Config, backbone: FoundationBackbone
) -> None:
    await publish(config, backbone, 1)
    past = version_of(await asyncio.to_thread(read_history, config, "main"), 1)
    await asyncio.to_thread(Operator(config, "ann", "").pin, "main", past)
    topics = config.topics.model_copy(update={"history": f"gone-{config.topics.history}"})
    bare = config.model_copy(update={"topics": topics})
    async with running(bare, backbone) as scorer:
        await scorer.ready()
        assert (await scorer.score())["kernel_version"] == 1


async def test_learning_is_stopped_in_the_groups_own_log(config: Config) -> None:
    operator = Operator(config, "ann", "labels are wrong")
    await asyncio.to_thread(operator.stop_learning, "main")
    assert not (await asyncio.to_thread(read_order, config, "main")).learning
    await asyncio.to_thread(operator.resume, "main")
    assert (await asyncio.to_thread(read_order, config, "main")).learning
    records = [decode_traffic(record.value or b"") for record in scan(config, config.topics.traffic, 0)]
    assert records == [LearningOrder(learning=False, by="ann"), LearningOrder(learning=True, by="ann")]


async def test_the_command_line_reports_missing_groups_and_versions(
    config: Config, backbone: FoundationBackbone
) -> None:
    await publish(config, backbone, 1, 2)
    with pytest.raises(ControlError, match="no kernel group 'other'; the configured ones are: main"):
        read_history(config, "other")
    with pytest.raises(ControlError, match="version 7 is not in the history: it holds 1 to 2"):
        version_of(read_history(config, "main"), 7)
    with pytest.raises(ControlError, match="no version before 1"):
        version_before(read_history(config, "main"), 1)


async def test_the_command_line_gives_and_lists_orders(config: Config, backbone: FoundationBackbone) -> None:
    await publish(config, backbone, 1, 2)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, obj=lambda: config)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    async with running(config, backbone) as scorer:
        await scorer.ready()
        await asyncio.to_thread(call, "rollback", "main", "--by", "ann", "--why", "odd")
        await scorer.version(1)
    listed = await asyncio.to_thread(call, "list")
    assert "version 1 is pinned (ordered by ann" in listed
    assert "rollback" in listed
    assert "learning is stopped" in await asyncio.to_thread(call, "freeze", "main", "--learning", "--by", "bob")
    assert "the newest published kernel is served" in await asyncio.to_thread(call, "resume", "main", "--by", "bob")


async def test_the_command_line_prints_the_newest_look_of_the_experiment_or_that_there_is_none(
    config: Config,
) -> None:
    def printed(*, as_json: bool = False) -> str:
        console = Console(file=io.StringIO(), width=200)
        print_uplift(config, None, console, as_json=as_json)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "not yet decided" in await asyncio.to_thread(printed)
    effects = [Effect("clicks_per_item", 0.2, 0.1, 0.05, 0.15), Effect("conversions_per_item", 0.0, 0.0, None, None)]
    for number in range(2):
        look = UpliftLook(number, effects, {"live": 980, "frozen": 20}, {"live": 9_800, "frozen": 200})
        decision = Decision("uplift", "main", 1.0, "experiment", msgspec.to_builtins(look))
        async with AIOKafkaProducer(**aiokafka_options(config.kafka), acks="all") as producer:
            await producer.send_and_wait(config.topics.decisions, encode_decision(decision), key=b"main", partition=0)
    output = await asyncio.to_thread(printed)
    assert "look 2" in output and "980 users" in output
    assert "the live arm is better" in output and "too few events" in output
    shown = msgspec.json.decode(await asyncio.to_thread(lambda: printed(as_json=True)))
    assert [effect["decided"] for effect in shown["main"]["effects"]] == ["better", "not yet"]
