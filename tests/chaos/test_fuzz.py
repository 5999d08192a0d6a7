"""Anything at every topic and entry point: no process ends, what is refused is counted, what is right is learned."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import httpx
import pytest

from streaming.clients import make_producer
from streaming.config import Config
from streaming.kernel_log.keys import kernel_key
from tests.chaos.conftest import Sizes, Tell, only_long
from tests.chaos.fuzz import EVENTS, JSON, damaged, made_up
from tests.chaos.log_reader import read_topic
from tests.chaos.stack import Stack
from tests.chaos.verdicts import check_all

MADE_UP = 1_000
"""Values that hypothesis makes at most, of each kind; the rest come from damage, which is quicker."""


COPIES = 10
"""Of each valid event that users of the stack never send, among five hundred that they sent."""


def valid_events() -> list[bytes]:
    """One of each event that another system may send and the users of the stack do not."""
    now = time.time()
    common: list[dict[str, object]] = [
        {"event": "item", "item_id": "i1", "fields": {"genres": ["Drama"], "year": 1994}},
        {"event": "user", "user_id": "u1", "fields": {"age": 34, "gender": "F"}},
        {"event": "impression", "request_id": "main.other", "user_id": "u1", "items": ["i1", "i2"]},
        {"event": "drift", "name": "sale", "kind": "campaign", "phase": "begins"},
    ]
    return [json.dumps(event | {"time": now}).encode() for event in common]


def newest(config: Config, topic: str, count: int) -> list[bytes]:
    """The newest values of a topic, to be damaged. From an empty topic only empty values could be made."""
    values = [record.value or b"" for record in read_topic(config, topic)[-count:]]
    assert any(values), f"{topic} holds nothing that could be damaged"
    return values


def write(config: Config, topic: str, values: Iterable[bytes | None], keys: Sequence[bytes | None] = (None,)) -> int:
    """Writes raw values under keys by turns; how many."""
    number = 0
    with make_producer(config.kafka, linger_ms=20) as producer:
        for number, value in enumerate(values, 1):
            key = keys[number % len(keys)]
            producer.send(topic, value=b"" if value is None and key is None else value, key=key, partition=0)
        producer.flush()
    return number


@pytest.mark.timeout(3_600)
def test_garbage_in_external_events_is_refused_counted_and_dead_lettered(
    stack: Stack, sizes: Sizes, tell: Tell
) -> None:
    check_all(stack.config, stack.drive(seed=8).stop())  # leaves clicks to damage, all of them read
    real = [*newest(stack.config, stack.config.topics.interactions, 500), *valid_events() * COPIES]
    before, lives = stack.metrics("ingest-1"), stack.lives()
    letters = len(read_topic(stack.config, stack.config.topics.dead_letters))
    few = min(MADE_UP, sizes.fuzzed_records // 8)
    values = [*made_up(few, EVENTS), *made_up(few, JSON)]
    sent = write(stack.config, stack.config.topics.interactions, values)
    sent += write(stack.config, stack.config.topics.interactions, damaged(real, sizes.fuzzed_records - sent, seed=1))

    def counted() -> float:
        now = stack.metrics("ingest-1")
        names = ("driftline_dead_letters_total", "driftline_events_ingested_total")
        return sum(now.total(name) - before.total(name) for name in names)

    stack.wait_until(
        lambda: counted() >= sent, "every record is ingested or refused", stack.of("ingest"), seconds=1_800
    )
    assert counted() == sent
    refused = stack.metrics("ingest-1").total("driftline_dead_letters_total") - before.total(
        "driftline_dead_letters_total"
    )
    assert len(read_topic(stack.config, stack.config.topics.dead_letters)) - letters == refused > 0
    assert stack.lives() == lives
    driver = stack.drive(seed=8)
    seen = check_all(stack.config, driver.stop())
    tell(f"{sent} records of garbage in interactions", f"{refused:.0f} dead letters, no process ended; {seen}")


@only_long
@pytest.mark.timeout(3_600)
def test_garbage_in_internal_topics_ends_no_process_even_at_startup(stack: Stack, sizes: Sizes, tell: Tell) -> None:
    lives, topics = stack.lives(), stack.config.topics
    stack.drive(seed=19).stop()  # leaves impressions, kernels and states to damage
    write(stack.config, topics.interactions, [b"{"])
    stack.wait_until(lambda: bool(read_topic(stack.config, topics.dead_letters)), "there is a dead letter")
    real = newest(stack.config, topics.traffic, 300)
    sent = write(stack.config, topics.traffic, made_up(min(MADE_UP, sizes.fuzzed_records), JSON))
    sent += write(stack.config, topics.traffic, damaged(real, sizes.fuzzed_records, seed=2))
    own = {
        topics.kernels: [None, b"", b"\xff", b"main/other", b"elsewhere/kernel", kernel_key("main")],
        topics.state: [None, b"", b"\xff\xfe", b"main/user/nobody", b"main/nothing/u1", b"other/item/i1"],
        topics.dead_letters: [None, b"x"],
    }
    for number, (topic, keys) in enumerate(own.items(), 3):
        present = newest(stack.config, topic, 100)
        sent += write(stack.config, topic, damaged(present, sizes.fuzzed_records // 4, seed=number), keys)
    driver = stack.drive(seed=9)
    assert stack.lives() == lives
    for name in ("processor-1", "scorer-1"):
        stack.kill(name)
        stack.start(name)
    stack.wait_ready()
    stack.answered(driver, 20)
    seen = check_all(stack.config, driver.stop())
    tell(f"{sent} records of garbage in our own topics, then both readers started again", seen)


PATHS = ("/v1/score", "/v1/events")


async def call(client: httpx.AsyncClient, url: str, body: bytes, dice: random.Random) -> int:
    """One call that may be wrong in its path, method, headers or body; the status."""
    method = dice.choice(("POST",) * 8 + ("GET", "PUT", "PATCH"))
    path = dice.choice((*PATHS * 4, "/v1/kernels", "/healthz", "/readyz", "/metrics", "/", "/../etc", "/v1/score?%ff"))
    headers = {"content-type": dice.choice(("application/json", "text/plain", "application/x-www-form-urlencoded"))}
    if dice.random() < 0.1:
        headers["content-encoding"] = dice.choice(("gzip", "br", "identity", "gzip, gzip"))
    if dice.random() < 0.1:
        headers["accept"] = dice.choice(("application/openmetrics-text; version=x", "*/*;q=nan", "\x7f"))
    try:
        return (await client.request(method, url + path, content=body, headers=headers)).status_code
    except httpx.TransportError as error:
        error.add_note(f"{method} {url}{path}, {len(body)} bytes, {headers}")
        raise


async def call_all(url: str, bodies: Iterable[bytes | None]) -> Counter[int]:
    """Statuses of all calls, eight at a time."""
    dice, statuses = random.Random(4), Counter[int]()
    gate = asyncio.Semaphore(8)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:

        async def one(body: bytes) -> None:
            async with gate:
                statuses[await call(client, url, body, dice)] += 1

        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(one(body or b""))
    return statuses


@pytest.mark.timeout(3_600)
def test_garbage_at_every_http_endpoint_is_answered_without_a_server_error(
    stack: Stack, sizes: Sizes, tell: Tell
) -> None:
    lives = stack.lives()
    before = stack.metrics("scorer-1").by("driftline_score_requests_total", "outcome")
    real = [
        b'{"user_id": "u1", "candidates": ["i1", "i2"], "domain": {"scene": "home", "period": "day"}, "top_k": 2}',
        b'[{"event": "feedback", "request_id": "main.nobody", "item_id": "i1", "time": %d}]' % time.time(),
    ]
    bodies = [*made_up(sizes.fuzzed_calls // 4, JSON), *damaged(real, sizes.fuzzed_calls, seed=5)]
    statuses = Counter[int]()
    for member in stack.members.values():
        share = bodies if member.role == "scorer" else bodies[: len(bodies) // 10]
        statuses += asyncio.run(call_all(member.url, share))
    assert not {status for status in statuses if status >= 500}, statuses
    after = stack.metrics("scorer-1").by("driftline_score_requests_total", "outcome")
    assert after.get("failed", 0) == before.get("failed", 0)
    assert stack.lives() == lives
    driver = stack.drive(seed=10)
    seen = check_all(stack.config, driver.stop())
    counted = ", ".join(f"{number} times {status}" for status, number in sorted(statuses.items()))
    tell(f"{statuses.total()} calls with garbage", f"{counted}; {seen}")


@only_long
@pytest.mark.timeout(3_600)
def test_a_flood_of_forged_ids_evicts_no_real_request_and_uses_bounded_memory(
    stack: Stack, sizes: Sizes, tell: Tell
) -> None:
    driver = stack.drive(seed=11)
    processor = stack.members["processor-1"]
    before, now = processor.memory(), time.time()
    flood = (
        b'{"event":"feedback","request_id":"main.made-up-%d","item_id":"i%d","time":%d}' % (number, number, now)
        for number in range(sizes.made_up_ids)
    )
    write(stack.config, stack.config.topics.interactions, flood)
    stack.answered(driver, 20)
    truth = driver.stop()
    seen = check_all(stack.config, truth)
    grown = (processor.memory() - before) / 2**20
    dropped = stack.metrics("processor-1").by("driftline_join_dropped_total", "reason")
    assert "evicted" not in dropped
    assert grown < 150, f"the processor grew by {grown:.0f} MB"
    tell(f"{sizes.made_up_ids} clicks under made-up request ids", f"the processor grew by {grown:.0f} MB; {seen}")
