"""The commit: five steps, the same as on the page, and no failure between them loses or doubles an example."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.kernel.record import pack_kernel, read_info
from streaming.kernel_log.errors import OwnershipLostError
from streaming.kernel_log.writer import Transaction
from streaming.processor.commit import UnfinishedCommitError
from tests.streaming.group.restarts import RECORDS, REFERENCE, same
from tests.streaming.processor.durable_owner import (
    FAILURES,
    SHOP,
    SHOP_RECORDS,
    Durable,
    Failure,
    Owner,
    fail,
    play,
)


@pytest.fixture(scope="module")
def shop_alone() -> Owner:
    """Conversions without a failure."""
    return play(set(), {}, story=SHOP)[0]


@pytest.mark.parametrize("failure", ["before 3", "inside 3", "before 4"])
@pytest.mark.parametrize("torn", [False, True])
def test_a_failure_neither_loses_nor_duplicates_conversions(failure: Failure, torn: bool, shop_alone: Owner) -> None:
    commits, failures = set(range(0, len(SHOP_RECORDS), 40)), dict.fromkeys((130, 300), failure)
    owner, _ = play(commits, failures, torn=torn, story=SHOP)
    assert same(owner.machine, shop_alone.machine)
    assert owner.machine.publisher.version == shop_alone.machine.publisher.version


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_between_two_steps_loses_and_duplicates_nothing(failure: Failure) -> None:
    owner, durable = play(commits=set(range(0, len(RECORDS), 40)), failures={90: failure, 200: failure})
    assert same(owner.machine, REFERENCE)
    owner.commit(whole=True)
    published = REFERENCE.publisher.published
    assert published is not None
    assert durable.kernels[-1] == pack_kernel(published.kernel, published.info, published.depends_on)
    owner.commit(whole=True)
    assert durable.offset == owner.machine.snapshot().resume_offset


@pytest.mark.slow
@given(
    st.sets(st.integers(0, len(RECORDS) - 1), max_size=10),
    # Not behind the last record: a recovery ends with the first record that its snapshot has not seen.
    st.dictionaries(st.integers(0, len(RECORDS) - 2), st.sampled_from(FAILURES), max_size=4),
    st.sets(st.integers(0, len(RECORDS) - 1), max_size=30),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_failures_at_any_step_do_not_change_the_final_kernel(
    commits: set[int], failures: dict[int, Failure], kernels: set[int], torn: bool
) -> None:
    owner, durable = play(commits, failures, kernels, torn)
    assert same(owner.machine, REFERENCE)
    versions = [read_info(kernel).version for kernel in durable.kernels]
    assert versions == sorted(set(versions)), "scorers must never go back"


def test_a_kernel_is_published_before_its_state_is_committed() -> None:
    owner, durable = play(commits=set(), failures={}, kernels=set(range(len(RECORDS))))
    assert len(durable.kernels) == REFERENCE.publisher.version
    assert not durable.slots
    assert durable.offset == 0
    owner.commit(whole=True)
    assert durable.chosen.cut is not None


def test_kernels_ahead_of_the_state_are_relearned_byte_identically_and_not_published_twice() -> None:
    every = set(range(len(RECORDS)))
    _, undisturbed = play(commits=set(), failures={}, kernels=every)
    owner, durable = play(commits={60}, failures={150: "before 1"}, kernels=every)
    assert durable.kernels == undisturbed.kernels
    assert same(owner.machine, REFERENCE)


def test_an_unreadable_snapshot_falls_back_to_the_previous_one_and_reaches_the_same_state() -> None:
    owner, durable = play(commits={60, 120, 180}, failures={200: "before 1"}, torn=True)
    assert same(owner.machine, REFERENCE)
    assert durable.torn == 1


def test_a_cut_while_a_fallback_catches_up_keeps_what_its_rows_hold() -> None:
    owner, _ = play(commits={60, 120, 130, 140, 180}, failures={122: "before 1", 150: "before 1"}, torn=True)
    assert same(owner.machine, REFERENCE)


def test_the_next_snapshot_never_overwrites_the_only_readable_one() -> None:
    _, durable = play(commits={60, 120}, failures={})
    durable.tear()
    good = durable.newest_slot
    assert good is not None
    assert durable.chosen.fallen_back
    owner = Owner(durable)
    for offset in range(owner.machine.position, len(RECORDS)):
        owner.feed(offset)
    before = durable.slots[good]
    owner.commit(whole=True)
    assert durable.slots[good] == before
    assert not durable.chosen.fallen_back


@pytest.mark.parametrize("failure", ["before 1", "before 2", "before 3", "inside 3"])
def test_nothing_is_committed_after_a_failed_commit(failure: Failure) -> None:
    durable = Durable()
    owner = Owner(durable)
    for offset in range(60):
        owner.feed(offset)
    fail(owner, durable, failure)
    stored = dict(durable.slots)
    for leaving in (False, True):
        with pytest.raises(UnfinishedCommitError, match="'main'"):
            owner.commit(whole=True, leaving=leaving)
    assert durable.slots == stored


def test_a_fenced_owner_reports_it_and_writes_no_offset() -> None:
    class Fenced(Durable):
        async def write(self, transaction: Transaction) -> None:
            raise OwnershipLostError("group 'main' is owned by another processor now")

    durable = Fenced()
    owner = Owner(durable)
    for offset in range(60):
        owner.feed(offset)
    with pytest.raises(OwnershipLostError):
        owner.commit(whole=True)
    assert durable.offset == 0


def test_the_offset_of_a_released_group_is_not_committed() -> None:
    durable = Durable()
    owner = Owner(durable)
    for offset in range(len(RECORDS)):
        owner.feed(offset)
    owner.commit(whole=False, leaving=True)
    assert durable.chosen.cut is not None
    assert durable.offset == 0
