"""Starts new kernel groups from the state of older ones, so that groups can be divided or merged.

Each new group takes over from the old groups whose domains it takes. From one parent it starts with a copy of the
learner, from several with their sum (`model.kernel.posterior.Posterior.joined`). Live rows are merged
(`features.live.merge`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from features.live.first_rows import FOLDER, write_first_rows
from features.live.merge import ParentRows, merge_rows
from model.container import ContainerError
from streaming.backbone import OpenedBackbone
from streaming.config import Config
from streaming.events.decisions import Decision
from streaming.group.assembly import new_machine
from streaming.kernel_log.reader import read_group
from streaming.kernel_log.snapshot import GroupSnapshot, decode_snapshot
from streaming.processor.partition_reader import PartitionReader
from streaming.rebuild.publish import publish
from streaming.rebuild.replay import ReplayError, traffic_span
from streaming.rebuild.state import WholeState


@dataclass(frozen=True)
class Parent:
    """What a new group takes over from an old one."""

    group: str
    taken: frozenset[str]
    """Keys of the old group's domains that the new group takes."""
    whole: bool
    """Whether those are all domains of the old group."""


@dataclass(frozen=True)
class Descent:
    """A new group and its parents."""

    group: str
    parents: tuple[Parent, ...]
    """Empty if it takes no domain of an old group; it then starts as the identity."""


@dataclass(frozen=True)
class _Known:
    parent: Parent
    snapshot: GroupSnapshot
    rows: ParentRows


def descents(old: Config, new: Config) -> list[Descent]:
    """The parents of each new group. Raises ReplayError for configurations that do not fit together."""
    for name in ("traffic", "kernels", "state", "history"):
        if getattr(old.topics, name) == getattr(new.topics, name):
            raise ReplayError(
                f"both configurations have topics.{name} = {getattr(new.topics, name)!r}: other groups need topics of"
                " their own, because a partition is a group"
            )
    if old.domain_space().values != new.domain_space().values:
        raise ReplayError("the configurations declare other domains: a kernel knows no more than it was pretrained for")
    return [Descent(group.name, tuple(_parents(old, set(new.domains_of(group.name))))) for group in new.groups]


def _parents(old: Config, wanted: set[str]) -> list[Parent]:
    held = {group.name: set(old.domains_of(group.name)) for group in old.groups}
    return [Parent(name, frozenset(keys & wanted), keys <= wanted) for name, keys in held.items() if keys & wanted]


def migrate(old: Config, new: Config, opened: OpenedBackbone, descent: Descent, by: str) -> WholeState | None:
    """Writes the first state of one new group; returns None if no parent has learned anything.

    Raises ReplayError, SnapshotError, KernelLogError; then nothing of this group is written.
    """
    known = [parent_state for parent in descent.parents if (parent_state := _read(old, opened, parent)) is not None]
    partition = new.partition_of(descent.group)
    assert partition is not None
    stored = asyncio.run(read_group(new, descent.group, partition))
    if stored.chosen.cut is not None or stored.kernel_version:
        raise ReplayError(f"group {descent.group!r} has learned already: give the new groups topics of their own")
    if not known:
        return None
    state = _state(new, opened, descent.group, known)
    detail = {"from": [parent_state.parent.group for parent_state in known], "examples": state.snapshot.examples}
    decision = Decision("migrate", descent.group, state.snapshot.newest_event_time, by, detail)
    asyncio.run(publish(new, state, decision))
    return state


def _read(old: Config, opened: OpenedBackbone, parent: Parent) -> _Known | None:
    """What a parent group knows; None if it has never committed. Raises ReplayError for a damaged newest snapshot."""
    partition = old.partition_of(parent.group)
    assert partition is not None
    stored = asyncio.run(read_group(old, parent.group, partition))
    cut = stored.chosen.cut
    if cut is None:
        return None
    if stored.chosen.fallen_back:
        raise ReplayError(
            f"the newest snapshot of group {parent.group!r} cannot be read: start its processor once, it mends that"
        )
    snapshot = decode_snapshot(cut.snapshot, group=parent.group, fingerprint=opened.backbone.fingerprint)
    machine = new_machine(old, opened, parent.group, PartitionReader(old, partition))
    machine.rows.restore(stored.rows)
    return _Known(parent, snapshot, ParentRows(machine.rows.all(), parent.taken, parent.whole))


def _state(new: Config, opened: OpenedBackbone, group: str, known: Sequence[_Known]) -> WholeState:
    """The first state of a new group: sums of what its parents know, and no record of `traffic` seen yet."""
    if not any((new.backbone_dir / FOLDER).glob(f"{group}.*")):
        write_first_rows(new.backbone_dir, group, new.domains_of(group), [])  # its rows come from its parents
    traffic = traffic_span(new, group)
    machine = new_machine(new, opened, group, PartitionReader(new, traffic.partition.partition))
    try:
        machine.learner.restore_sum([parent_state.snapshot.learner for parent_state in known])
        if machine.conversions.head is not None:
            conversions = [parent_state.snapshot.conversions for parent_state in known]
            machine.conversions.head.learner.restore_sum(
                [parent_state.learner for parent_state in conversions if parent_state is not msgspec.UNSET]
            )
    except ContainerError as error:
        raise ReplayError(f"group {group!r} cannot begin with what its parents know: {error}") from error
    rows = merge_rows(opened.layout, [parent_state.rows for parent_state in known])
    examples, version = machine.learner.examples, max(parent_state.snapshot.version for parent_state in known)
    newest = max(parent_state.snapshot.newest_event_time for parent_state in known)
    begin = traffic.held.begin
    kernel = machine.publisher.candidate(0)
    snapshot = msgspec.structs.replace(
        machine.snapshot(),
        next_offset=begin,
        examples=examples,
        version=version,
        newest_event_time=newest,
    )
    info = replace(kernel.info, examples=examples, version=version, newest_event_time=newest)
    return WholeState(snapshot, replace(kernel, info=info), rows, begin, {}, machine.first_keys, traffic.topic)
