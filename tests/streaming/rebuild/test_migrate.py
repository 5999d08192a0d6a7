"""Kernel groups divided and merged on a real broker: what was known goes along, what cannot be is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from features.live.first_rows import write_first_rows
from features.live.layout import OVERALL, LiveRow
from features.live.merge import ParentRows, merge_rows
from model.encoding.domain import Domain
from streaming.config import Config, GroupConfig, JoinConfig, TopicConfig
from streaming.group.assembly import new_machine
from streaming.group.machine import GroupMachine
from streaming.kernel_log.reader import read_group
from streaming.kernel_log.snapshot import decode_snapshot
from streaming.kernel_log.writer import GroupWriter
from streaming.processor.commit import Cut, CutPlace, CutState, encode
from streaming.rebuild.migrate import descents, migrate
from streaming.rebuild.replay import ReplayError
from streaming.topics import ensure_topics
from tests.streaming.group.tiny import BACKBONE, JOIN, LAYOUT, LEARNER, LIVE, MemoryLog, appended, encoded, traffic
from tests.streaming.processor.tiny_processor import OPENED

BOTH = (GroupConfig(name="main"),)
APART = (GroupConfig(name="day", period=("day",)), GroupConfig(name="rest"))


def config_of(base: Config, folder: Path, groups: tuple[GroupConfig, ...], prefix: str) -> Config:
    """A configuration of tiny groups with topics of its own."""
    names = {key: f"{prefix}{name}" for key, name in base.topics.names().items()}
    changed = base.model_copy(
        update={
            "groups": groups,
            "topics": TopicConfig(**names),
            "domains": base.domains.model_copy(update={"period": ("day", "night")}),
            "live": LIVE,
            "backbone_path": folder / f"{prefix}backbone",
            "learner": LEARNER,
            "join": JoinConfig(**JOIN.model_dump()),
        }
    )
    changed.backbone_dir.mkdir(exist_ok=True)
    for group in groups:
        write_first_rows(changed.backbone_dir, group.name, changed.domains_of(group.name), [])
    ensure_topics(changed)
    return changed


async def commit(config: Config, machine: GroupMachine) -> None:
    partition = config.partition_of(machine.group)
    assert partition is not None
    writer = GroupWriter(config, machine.group, partition)
    await writer.open()
    stored = await read_group(config, machine.group, partition)
    closed = machine.take_closed()
    state = CutState(machine.snapshot(), machine.rows.live.rows(), machine.rows_offset, machine.first_keys, closed)
    place = CutPlace(stored.chosen.number, stored.chosen.slot, stored.traffic.topic)
    await writer.write(encode(Cut(machine.publisher.published, state), place))
    await writer.close()


def learned(config: Config, group: str, seed: int) -> GroupMachine:
    machine = new_machine(config, OPENED, group, MemoryLog([]))
    for offset, value in enumerate(encoded(traffic(60, seed=seed, prefix=f"{group}.r"))):
        machine.feed(offset, value, appended(value))
    asyncio.run(commit(config, machine))
    return machine


def begun(config: Config, group: str) -> GroupMachine:
    """The new group as its first owner loads it."""
    partition = config.partition_of(group)
    assert partition is not None
    stored = asyncio.run(read_group(config, group, partition))
    assert stored.chosen.cut is not None
    machine = new_machine(config, OPENED, group, MemoryLog([]))
    snapshot = decode_snapshot(stored.chosen.cut.snapshot, group=group, fingerprint=BACKBONE.fingerprint)
    machine.restore(snapshot, stored.rows, stored.closed, stored.chosen.rows_offset(stored.traffic.topic))
    return machine


def test_a_split_group_gives_each_part_a_copy_of_its_learner(stream_config: Config, tmp_path: Path) -> None:
    old, new = config_of(stream_config, tmp_path, BOTH, ""), config_of(stream_config, tmp_path, APART, "n-")
    parent = learned(old, "main", 1)
    for descent in descents(old, new):
        migrate(old, new, OPENED, descent, "a test")
    for name in ("day", "rest"):
        child = begun(new, name)
        assert child.learner.snapshot() == parent.learner.snapshot()
        assert child.publisher.version == parent.publisher.version + 1
        for value in encoded(traffic(20, seed=9, prefix=f"{name}.r", start=9_000.0)):
            child.feed(child.position, value, appended(value))
        assert child.publisher.examples > parent.publisher.examples
    assert {row.key for row in begun(new, "day").rows.live.rows() if row.kind == "domain"} == {
        "home/unknown/day",
        OVERALL,
    }


def test_merged_groups_start_with_the_sum_of_their_learners(stream_config: Config, tmp_path: Path) -> None:
    old, new = config_of(stream_config, tmp_path, APART, ""), config_of(stream_config, tmp_path, BOTH, "n-")
    parents = [learned(old, "day", 1), learned(old, "rest", 2)]
    (descent,) = descents(old, new)
    migrate(old, new, OPENED, descent, "a test")
    child = begun(new, "main")
    assert child.learner.examples == sum(parent.learner.examples for parent in parents)
    assert child.learner.nats() > max(parent.learner.nats() for parent in parents)


def test_incompatible_groups_are_refused_with_an_explanation(stream_config: Config, tmp_path: Path) -> None:
    old, new = config_of(stream_config, tmp_path, BOTH, ""), config_of(stream_config, tmp_path, APART, "n-")
    with pytest.raises(ReplayError, match=r"both configurations have topics\.traffic"):
        descents(old, old)
    other = new.model_copy(update={"domains": new.domains.model_copy(update={"period": ("day",)})})
    with pytest.raises(ReplayError, match="declare other domains"):
        descents(old, other)
    learned(old, "main", 1)
    learned(new, "day", 3)
    with pytest.raises(ReplayError, match="'day' has learned already"):
        migrate(old, new, OPENED, descents(old, new)[0], "a test")


def test_rows_of_two_parents_add_up_after_decay_to_the_newest_time() -> None:
    width = LAYOUT.width_of("item")
    one = LiveRow("item", "i", 100.0, np.ones(width, dtype=np.float32))
    other = LiveRow("item", "i", 100.0 + LAYOUT.half_lives[0], np.ones(width, dtype=np.float32))
    parents = [ParentRows([row], {"home/unknown/day"}, whole=True) for row in (one, other)]
    (merged,) = merge_rows(LAYOUT, parents)
    assert merged.updated_at == other.updated_at
    assert merged.values[0] == 1.5
    assert merged.values[-2:].tolist() == [2.0, 2.0]


def test_rows_of_a_facet_value_with_a_slash_go_with_their_domain() -> None:
    row = LiveRow("facet", "region=US/CA", 100.0, np.ones(LAYOUT.width_of("facet"), dtype=np.float32))
    other = LiveRow("facet", "region=US", 100.0, np.ones(LAYOUT.width_of("facet"), dtype=np.float32))
    taken = {Domain("home", "US/CA", "day").key}
    assert merge_rows(LAYOUT, [ParentRows([row, other], taken, whole=False)]) == [row]
