"""The page on the real broker: it shows the records of the topics, and its orders equal those of the command line."""

from __future__ import annotations

import asyncio
import time

import pytest

from model.backbone.foundation import FoundationBackbone
from model.drift.verdict import VerdictKind
from streaming.config import Config, GroupConfig
from streaming.control.orders import read_decisions
from streaming.events.decisions import Decision, encode_decision
from streaming.events.status import GroupStatus, encode_status
from streaming.kernel_log.keys import kernel_key
from streaming.topics import ensure_topics
from tests.pages.feed import domain
from tests.streaming.scorer.running_scorer import running, writer
from tests.streaming.scorer.scoring_parts import make_backbone, packed


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


@pytest.fixture
def config(stream_config: Config) -> Config:
    config = stream_config.model_copy(update={"groups": (GroupConfig(name="main"),)})
    ensure_topics(config)
    return config


def status(time: float) -> bytes:
    return encode_status(
        GroupStatus("main", time, time, 1, 1, domains=[domain("group", VerdictKind.STABLE, time, 0.6, 0.1)])
    )


async def test_records_of_the_topics_are_shown_and_garbage_is_counted(
    config: Config, backbone: FoundationBackbone
) -> None:
    now, topics = time.time(), config.topics
    async with writer(config) as producer:
        old = int((now - 48 * 3_600) * 1_000)
        await producer.send_and_wait(topics.status, status(now - 48 * 3_600), key=b"main", timestamp_ms=old)
        for value in (status(now - 10), b"junk", status(now - 5)):
            await producer.send_and_wait(topics.status, value, key=b"main")
        for value in (encode_decision(Decision("held", "main", now, "gate")), b"{}", b"\xff"):
            await producer.send_and_wait(topics.decisions, value, partition=0)
    async with running(config, backbone) as scorer:
        await scorer.ready()
        page = scorer.service.page
        await scorer.until(lambda: page.status(0).unread == 3 and bool(page.status(0).decisions))
        assert page.status(0).problem is None
        assert page.past("main", "group", 0).time == [now - 10, now - 5]
        assert page.status(0).groups[0].time == now - 5
        async with writer(config) as producer:
            await producer.send_and_wait(topics.status, status(now), key=b"main")
        await scorer.until(lambda: page.status(0).groups[0].time == now)


async def test_orders_from_the_page_are_applied_audited_and_limited_to_the_history(
    config: Config, backbone: FoundationBackbone
) -> None:
    async with writer(config) as producer:
        for version in range(1, 6):
            for topic in (config.topics.kernels, config.topics.history):
                await producer.send_and_wait(topic, packed(backbone, version), key=kernel_key("main"), partition=0)

    async with running(config, backbone) as scorer:
        await scorer.ready()

        async def order(kind: str, code: int = 202, **more: object) -> dict[str, object]:
            body = {"group": "main", "order": kind, "by": "ann", "why": "odd", **more}
            answer = await scorer.client.post("/v1/orders", json=body)
            assert answer.status_code == code, answer.text
            order_given: dict[str, object] = answer.json()
            return order_given

        assert (await order("rollback"))["pinned_version"] == 4
        await scorer.version(4)
        assert (await order("rollback"))["pinned_version"] == 3
        await scorer.version(3)
        assert (await order("pin", version=1))["by"] == "ann (no key)"
        await scorer.version(1)
        assert "no version before 1" in str((await order("rollback", 422))["detail"])
        assert "version 9 is not in the history" in str((await order("pin", 422, version=9))["detail"])
        assert (await order("pin", 422))["error"] == "invalid_request"
        assert "no kernel group 'x'" in str((await order("freeze", 422, group="x"))["detail"])
        await order("freeze")
        await scorer.version(0)
        assert (await order("stop_learning"))["learning"] is False
        await order("resume")
        await scorer.version(5)
        kinds = ["rollback", "rollback", "pin", "freeze", "stop_learning", "resume"]
        await scorer.until(lambda: len(scorer.service.page.status(0).decisions) == len(kinds))
        assert [one.kind for one in scorer.service.page.status(0).decisions] == kinds
    decisions = await asyncio.to_thread(read_decisions, config, "main")
    assert [one.kind for one in decisions] == kinds
    assert {(one.by, one.detail["why"]) for one in decisions} == {("ann (no key)", "odd")}
