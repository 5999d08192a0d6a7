"""An owned group: which records may follow the loaded state."""

from __future__ import annotations

import pytest

from streaming.config import Config
from streaming.events.status import GroupStatus
from streaming.kernel_log.writer import GroupWriter
from streaming.processor.commit import CutPlace, GroupCommitter, SnapshotPace
from streaming.processor.learning_thread import LearningThread
from streaming.processor.owned_group import OwnedGroup, RecoveryGapError
from streaming.processor.partition_reader import PartitionReader
from tests.streaming.group.tiny import machine


async def stored(_offset: int) -> None:
    """The broker takes every offset."""


@pytest.fixture
def owned() -> OwnedGroup:
    """A group whose state asks for records from offset 40 on; nothing is started or opened."""
    group = machine()
    pace = SnapshotPace(60, 60)
    thread = LearningThread(
        group,
        queue_records=10,
        pace=pace,
        published_version=0,
        status_seconds=3_600,
        status=lambda: GroupStatus("main", 0.0, 0.0, 0, 0),
        on_learned=lambda learned, seconds: None,
        on_rows=lambda rows: None,
        on_cut=lambda waiting: None,
        on_failure=lambda error: None,
    )
    writer = GroupWriter(Config(), "main", 0)
    place = CutPlace(1, 0, "topic")
    committer = GroupCommitter("main", source=thread, pace=pace, writer=writer, store_offset=stored, place=place)
    return OwnedGroup(group, thread, committer, writer, PartitionReader(Config(), 0), first_offset=40)


@pytest.mark.parametrize("first", [0, 39, 40])
def test_records_are_accepted_from_the_requested_offset(owned: OwnedGroup, first: int) -> None:
    assert all(owned.accepts(offset) for offset in (first, first + 1, 90))


def test_records_fetched_before_the_seek_are_ignored(owned: OwnedGroup) -> None:
    assert [owned.accepts(offset) for offset in (90, 91, 40, 41, 90)] == [False, False, True, True, True]


def test_a_group_that_gets_only_later_records_reports_the_offset_to_seek_to(owned: OwnedGroup) -> None:
    assert not owned.accepts(90)
    assert owned.strays_since is not None
    owned.strays_since -= 3_600
    with pytest.raises(RecoveryGapError, match="goes on at 91: set it back to 40"):
        owned.accepts(91)
