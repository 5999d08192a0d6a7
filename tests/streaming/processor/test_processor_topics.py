"""A processor whose topics are not as it left them: a corrupt snapshot, a new traffic topic, another deployment."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from local.demo.settings import free_ports
from streaming.clients import make_admin, make_producer
from streaming.config import Config
from streaming.kernel_log.cuts import choose
from streaming.kernel_log.keys import SLOTS, learner_key
from streaming.topics import ensure_topics
from tests.streaming.group.tiny import (
    encoded,
    traffic,
)
from tests.streaming.processor.running_processor import (
    GROUPS,
    Workers,
    all_learned,
    check_final,
    committed,
    ended,
    group_records,
    kill,
    produce,
    snapshots,
    wait_until,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def overwrite(config: Config, topic: str, partition: int, key: bytes, value: bytes) -> None:
    """Writes to an internal topic, as another program could."""
    with make_producer(config.kafka) as producer:
        producer.send(topic, key=key, value=value, partition=partition).get(timeout=30)


def newest_slot(config: Config, group: str) -> int:
    """The slot with the group's newest snapshot."""
    values = committed(config)
    return 1 - choose(group, {slot: values.get(learner_key(group, slot)) for slot in SLOTS}, None).slot


def learned_up_to(config: Config, end: int) -> bool:
    """Whether every group's newest snapshot ends before the record `end`."""
    return [snapshot.next_offset for snapshot in snapshots(config).values()] == [end] * len(GROUPS)


def both_slots(config: Config) -> bool:
    """Whether every group has a snapshot and the one before it."""
    values = committed(config)
    return all(learner_key(name, slot) in values for name in GROUPS for slot in SLOTS)


def test_a_corrupt_snapshot_falls_back_to_the_previous_one_without_changing_the_final_kernels(
    config: Config, workers: Workers
) -> None:
    streams = [group_records(index) for index in range(len(GROUPS))]
    first = workers.start()
    for part in range(2):  # until both slots hold a snapshot
        for index, records in enumerate(streams):
            produce(config, index, records[part * 300 : (part + 1) * 300])
        wait_until(functools.partial(learned_up_to, config, (part + 1) * 300), workers)
    kill(first)
    assert both_slots(config), "or nothing is left to fall back to"
    for index, name in enumerate(GROUPS):
        overwrite(config, config.topics.kernels, index, learner_key(name, newest_slot(config, name)), b"garbage")
        overwrite(config, config.topics.state, index, b"garbage key", b"\x91" * 100_000)
        overwrite(config, config.topics.kernels, index, b"\xff\xfe", b"garbage")
    workers.start()
    for index, records in enumerate(streams):
        produce(config, index, records[600:])
    wait_until(lambda: all_learned(config), workers)
    check_final(config, workers)
    logs = workers.logs()
    assert "cannot be read: its 7 bytes do not have their checksum" in logs
    assert "fallen back to the snapshot before" in logs
    assert "the state record b'garbage key' cannot be read" in logs


def test_a_recreated_traffic_topic_is_reported_and_learned_from_with_the_earlier_state(
    config: Config, workers: Workers
) -> None:
    process = workers.start()
    for index in range(len(GROUPS)):
        produce(config, index, group_records(index))
    wait_until(lambda: all_learned(config), workers)
    known = snapshots(config)
    with make_admin(config.kafka) as admin:
        admin.delete_topics([config.topics.traffic])
        wait_until(lambda: config.topics.traffic not in admin.list_topics(), workers)
    ensure_topics(config)
    assert ended(process, 60) == 1, workers.logs()
    assert "was deleted and made anew" in workers.logs()
    later = [
        encoded(traffic(60, seed=5 + index, prefix=f"{name}.s", start=5_000.0)) for index, name in enumerate(GROUPS)
    ]
    workers.start()
    for index, records in enumerate(later):
        produce(config, index, records)
    ends = dict(zip(GROUPS, map(len, later), strict=True))
    wait_until(lambda: {name: one.next_offset for name, one in snapshots(config).items()} == ends, workers)
    assert "was deleted and made anew since the last cut" in workers.logs()
    for name, stored in snapshots(config).items():
        assert stored.examples > known[name].examples
        assert stored.version > known[name].version


def test_two_deployments_with_one_traffic_topic_stay_separate(config: Config, workers: Workers, tmp_path: Path) -> None:
    names = {"kernels": f"{config.topics.kernels}-b", "state": f"{config.topics.state}-b"}
    (port,) = free_ports(1)
    other = config.model_copy(
        update={
            "topics": config.topics.model_copy(update=names),
            "processor": config.processor.model_copy(update={"metrics_port": port}),
        }
    )
    ensure_topics(other)
    folder = tmp_path / "other"
    folder.mkdir()
    others = Workers(other, folder)
    try:
        workers.start()
        others.start()
        for index in range(len(GROUPS)):
            produce(config, index, group_records(index))
        wait_until(lambda: all_learned(config), workers)
        wait_until(lambda: all_learned(other), others)
        check_final(config, workers)
        check_final(other, others)
    finally:
        for process in others.alive:
            kill(process)
