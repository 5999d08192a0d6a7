"""The running scorer on the real broker: readiness, kernels changing under load, impressions, events, a lost broker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import REGISTRY

from local.broker import LocalBroker
from local.watchdog import Watchdog
from model.backbone.foundation import FoundationBackbone
from model.encoding.domain import Domain
from streaming.config import Config, GroupConfig, KafkaConfig
from streaming.events import decode_event
from streaming.kernel_log.keys import kernel_key
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.scorer.schema import ScoreRequest
from streaming.scorer.service import ScorerService
from streaming.topics import ensure_topics
from tests.streaming.scorer.running_scorer import ASK, ITEMS, publish, read, read_impressions, running, writer
from tests.streaming.scorer.scoring_parts import (
    MadeUpFeatures,
    live_logit,
    make_backbone,
    make_kernels,
    make_scorer,
    packed,
)

CLICK = {"event": "feedback", "request_id": "main.1", "item_id": "a", "time": 1.0}


HOME = Domain("home", "unknown", "day")


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


@pytest.fixture
def config(stream_config: Config) -> Config:
    return stream_config.model_copy(update={"groups": (GroupConfig(name="main"),)})


def _with(config: Config, section: str, **changes: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})


def live_scores(backbone: FoundationBackbone, items: list[str], version: int) -> list[float]:
    rows = MadeUpFeatures(backbone).represent("user-1", items, HOME, 0.0)
    if version == 0:
        return list(rows.frozen_logit.sigmoid().tolist())
    return list(live_logit(rows, version).sigmoid().tolist())


async def test_a_scorer_is_ready_only_with_the_newest_kernel(config: Config, backbone: FoundationBackbone) -> None:
    ensure_topics(config)
    await publish(config, *(packed(backbone, version) for version in (1, 2, 3)))
    async with running(config, backbone) as scorer:
        first = await scorer.client.get("/readyz")
        assert (first.status_code, list(first.json()["missing"])) == (503, ["broker"])
        assert (await scorer.client.post("/v1/score", json=ASK)).status_code == 503
        await scorer.ready()
        assert (await scorer.score())["kernel_version"] == 3
        kernels = (await scorer.client.get("/v1/kernels")).json()
    assert [swap["version"] for swap in kernels["swaps"]] == [3]
    assert kernels["swaps"][0]["at_start"]


async def test_a_new_kernel_serves_within_seconds_and_its_freshness_is_exported(
    config: Config, backbone: FoundationBackbone
) -> None:
    async with running(config, backbone) as scorer:
        await scorer.ready()
        assert (await scorer.score())["kernel_version"] == 0
        learned_at = time.time()
        await publish(config, packed(backbone, 1, time=learned_at))
        await scorer.version(1)
        kernels = (await scorer.client.get("/v1/kernels")).json()
    swap = kernels["swaps"][0]
    assert not swap["at_start"]
    assert swap["freshness_s"] == pytest.approx(swap["taken_at"] - learned_at)


async def test_a_kernel_of_an_aborted_transaction_is_never_served(config: Config, backbone: FoundationBackbone) -> None:
    async with running(config, backbone) as scorer:
        await scorer.ready()
        async with writer(config, transactional_id=f"{config.topics.kernels}-owner") as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(
                config.topics.kernels, packed(backbone, 8), key=kernel_key("main"), partition=0
            )
            await producer.abort_transaction()
            async with producer.transaction():
                await producer.send(config.topics.kernels, packed(backbone, 9), key=kernel_key("main"), partition=0)
        await scorer.version(9)
        swaps = scorer.service.kernels().swaps
    assert [swap.version for swap in swaps] == [9]


async def test_kernels_that_change_under_load_never_mix_in_one_answer(
    config: Config, backbone: FoundationBackbone
) -> None:
    async with running(config, backbone) as scorer:
        await scorer.ready()
        answers: list[dict[str, Any]] = []
        published = asyncio.Event()

        async def ask() -> None:
            while not published.is_set():
                answers.append(await scorer.score())
                await asyncio.sleep(0.005)

        askers = [asyncio.create_task(ask()) for _ in range(2)]
        async with writer(config) as producer:
            for version in range(1, 6):
                value = packed(backbone, version)
                await producer.send_and_wait(config.topics.kernels, value, key=kernel_key("main"), partition=0)
                await scorer.version(version)
        published.set()
        await asyncio.gather(*askers)
    seen = Counter(answer["kernel_version"] for answer in answers)
    assert len(seen) > 2
    for answer in answers[:: 1 + len(answers) // 200]:
        items = [score["item_id"] for score in answer["scores"]]
        served = [score["score"] for score in answer["scores"]]
        np.testing.assert_allclose(served, live_scores(backbone, items, answer["kernel_version"]), rtol=1e-4)


async def test_after_a_refused_kernel_the_old_one_serves(config: Config, backbone: FoundationBackbone) -> None:
    async with running(config, backbone) as scorer:
        await scorer.ready()
        await publish(config, packed(backbone, 1), b"torn to pieces", packed(make_backbone(5), 2))
        await scorer.until(lambda: bool(scorer.service.kernels().refusals))
        await publish(config, packed(backbone, 3)[:-9])
        await scorer.until(lambda: "garbage" in {refusal.reason for refusal in scorer.service.kernels().refusals})
        await publish(config, packed(backbone, 4))
        await scorer.version(4)


async def test_with_the_live_arm_off_the_newest_kernel_changes_nothing(
    config: Config, backbone: FoundationBackbone
) -> None:
    ensure_topics(config)
    await publish(config, packed(backbone, 1))
    async with running(_with(config, "scorer", live_arm=False), backbone) as scorer:
        await scorer.ready()
        answer = await scorer.score()
    assert answer["kernel_version"] == 0
    served = {score["item_id"]: score["score"] for score in answer["scores"]}
    assert [served[item] for item in ITEMS] == live_scores(backbone, ITEMS, 0)


async def test_served_scores_are_in_the_log(config: Config, backbone: FoundationBackbone) -> None:
    ensure_topics(config)
    await publish(config, packed(backbone, 2))
    async with running(config, backbone) as scorer:
        await scorer.ready()
        answers = [await scorer.score(top_k=3) for _ in range(5)]
    for answer, impression in zip(answers, await read_impressions(config, 5), strict=True):
        assert impression.request_id == answer["request_id"]
        assert impression.items == [score["item_id"] for score in answer["scores"]]
        assert (impression.kernel_version, impression.fingerprint) == (2, backbone.fingerprint)
        served = torch.tensor(impression.array("live_logit")).sigmoid().tolist()
        assert served == [score["score"] for score in answer["scores"]]


async def test_explored_requests_are_counted_by_whether_the_best_was_drawn(
    config: Config, backbone: FoundationBackbone
) -> None:
    def counted(drawn: str) -> float:
        labels = {"group": "main", "drawn": drawn}
        value = REGISTRY.get_sample_value("driftline_explored_requests_total", labels)
        assert value is not None
        return value

    async with running(_with(config, "scorer", explore_share=0.5, explore_temperature=0.1), backbone) as scorer:
        await scorer.ready()
        best, other = counted("best"), counted("other")
        answers = [await scorer.score() for _ in range(40)]
    places = [answer["explored"]["place"] for answer in answers if "explored" in answer]
    assert 0 < len(places) < 40
    assert counted("best") == best + places.count(1)
    assert counted("other") == other + len(places) - places.count(1)


@pytest.mark.parametrize("ahead_s", [3_600.0, -300.0])
async def test_impressions_have_the_time_of_the_broker_despite_a_wrong_local_clock(
    config: Config, backbone: FoundationBackbone, ahead_s: float
) -> None:
    async with running(config, backbone, wall=lambda: time.time() + ahead_s) as scorer:
        await scorer.ready()
        began = time.time()
        await scorer.score()
        ended = time.time()
        slack = abs((REGISTRY.get_sample_value("driftline_clock_offset_seconds") or 0.0) + ahead_s)
        ahead = await scorer.client.post("/v1/events", json={**CLICK, "time": ended + 60.0})
        assert ahead.status_code == 202
    (impression,) = await read_impressions(config, 1)
    assert began - slack - 1e-3 <= impression.time <= ended + slack + 1e-3
    assert slack < abs(ahead_s) / 2


async def test_events_are_written_to_the_external_topic(config: Config, backbone: FoundationBackbone) -> None:
    async with running(config, backbone) as scorer:
        await scorer.ready()
        answer = await scorer.client.post("/v1/events", json=[CLICK, {"event": "user", "user_id": "u", "time": 2.0}])
        assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
        wide = {"event": "item", "item_id": "i", "time": 1.0, "text": "x" * 1_100_000}
        refused = await scorer.client.post("/v1/events", json=[CLICK, wide])
        assert (refused.status_code, refused.json()["error"]) == (422, "event_too_large")
        assert "event 1 " in refused.json()["detail"]
    topics = config.topics
    values = await read(config, topics.interactions, 2, topics.interactions_partitions)
    written = {type(decode_event(value)).__name__ for value in values}
    assert written == {"FeedbackEvent", "UserEvent"}


async def test_impressions_beyond_the_buffer_are_lost_and_counted(config: Config, backbone: FoundationBackbone) -> None:
    def lost() -> float:
        return REGISTRY.get_sample_value("driftline_impressions_lost_total", {"reason": "buffer_full"}) or 0.0

    async with running(_with(config, "scorer", impression_buffer_bytes=10), backbone) as scorer:
        await scorer.ready()
        before = lost()
        await scorer.score()
        assert lost() == before + 1


async def test_without_a_broker_a_scorer_waits_reports_it_and_ends_with_an_error(
    tmp_path: Path, backbone: FoundationBackbone
) -> None:
    config = Config(run_dir=tmp_path, kafka=KafkaConfig(bootstrap="127.0.0.1:9", startup_wait_s=0.5))
    async with running(config, backbone) as scorer:
        ready = await scorer.client.get("/readyz")
        assert "127.0.0.1:9" in ready.json()["missing"]["broker"]
        await scorer.died.wait()
        assert "driftline broker start" in scorer.supervisor.failures["scorer-start"]
        assert (await scorer.client.get("/healthz")).status_code == 503
    assert scorer.supervisor.exit_code == 1


@pytest.mark.slow
async def test_a_broker_outage_loses_nothing(
    tmp_path: Path, cache_dir: Path, watchdog: Watchdog, config: Config, backbone: FoundationBackbone
) -> None:
    """Scores go on, events are refused for the while, then impressions arrive whole and kernels are followed again."""
    broker = LocalBroker(tmp_path / "kafka", cache_dir, watchdog=watchdog)
    await asyncio.to_thread(broker.start)
    try:
        own = config.model_copy(update={"kafka": KafkaConfig(bootstrap=broker.address)})
        async with running(_with(own, "scorer", events_timeout_s=1.0), backbone) as scorer:
            await scorer.ready()
            asked = [(await scorer.score())["request_id"] for _ in range(3)]
            await asyncio.to_thread(broker.stop)
            for _ in range(20):
                asked.append((await scorer.score())["request_id"])
                await asyncio.sleep(0.05)
            away = await scorer.client.post("/v1/events", json=CLICK)
            assert (away.status_code, away.json()["error"]) == (503, "broker_away")
            await asyncio.to_thread(broker.start)
            await publish(own, packed(backbone, 1))
            await scorer.version(1)
            back = await scorer.client.post("/v1/events", json=CLICK)
            assert back.status_code == 202
            asked.append((await scorer.score())["request_id"])
            assert not scorer.supervisor.failures
        logged = await read_impressions(own, len(asked))
    finally:
        if broker.running():
            await asyncio.to_thread(broker.stop)
    assert [impression.request_id for impression in logged] == asked


async def test_a_scorer_that_was_never_started_can_stop_and_score(backbone: FoundationBackbone) -> None:
    service = ScorerService(
        Config(), make_scorer(backbone, make_kernels(backbone)), make_kernels(backbone), TaskSupervisor()
    )
    assert (await service.score(ScoreRequest("u", ["a"]), 0.0)).impression.items == ["a"]
    await service.stop()
