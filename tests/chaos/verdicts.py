"""What must be true of a log whatever happened to the processes that wrote and read it."""

from __future__ import annotations

import time

from streaming.config import Config, group_of_request
from tests.chaos.driver import Truth
from tests.chaos.log_reader import (
    Appended,
    Committed,
    committed,
    conversions_of,
    labels_of,
    read_topic,
    undisturbed,
)

SETTLE_S = 120.0
"""Seconds without progress after which a group counts as stuck: on a busy machine it may need long to catch up."""
RIPENS_S = 3.0
"""Behind the window of conversions, until a click that matured is learned."""


def settled(config: Config, newest: float, group: str = "main") -> Committed:
    """The group once its windows up to event time `newest` are closed and committed."""
    end, position = time.monotonic() + SETTLE_S, -1
    while time.monotonic() < end:
        stored = committed(config, group)
        if stored is not None:
            reached = stored.snapshot.join.time.newest > newest
            if reached and not stored.snapshot.join.open:
                return stored
            if not reached and stored.snapshot.next_offset > position:
                end, position = time.monotonic() + SETTLE_S, stored.snapshot.next_offset
        time.sleep(0.5)
    told = f"group {group}, committed up to record {position}"
    raise AssertionError(f"{told}: the windows up to {newest} were not closed in {SETTLE_S:.0f} s without progress")


def check_exact(config: Config, stored: Committed, records: list[Appended], group: str = "main") -> None:
    """No record is lost or learned twice: one undisturbed pass over the log gives the same state, bit for bit."""
    expected = undisturbed(config, records, stored.snapshot.next_offset, group)
    assert stored.snapshot.examples == expected.snapshot.examples
    assert stored.snapshot.version == expected.snapshot.version
    assert stored.snapshot.learner == expected.snapshot.learner
    assert stored.snapshot.conversions == expected.snapshot.conversions
    # Garbage under keys of nobody may stand beside them; what belongs to somebody is as it must be.
    assert {key: stored.rows.get(key) for key in expected.rows} == expected.rows


def check_labels(config: Config, truth: Truth, records: list[Appended], group: str = "main") -> tuple[int, int, int]:
    """No click that was acknowledged in time is learned as a negative, and a later one corrects what was taught.

    Gives the clicks in time (without any nothing is shown), the later ones, and the examples.
    """
    labels = labels_of(config, records, group)
    assert not labels.twice
    own = [click for click in truth.clicks if group_of_request(click.request_id) == group]
    in_time = {(click.request_id, click.item_id) for click in own if truth.in_time(click, config.join.window_s)}
    late = {(click.request_id, click.item_id) for click in own if click.acknowledged is not None} - in_time
    false = [key for key in in_time if labels.learned.get(key) is False]
    unlearned = in_time - labels.learned.keys()
    lost = [key for key in late if labels.learned.get(key) is False and key not in labels.corrected]
    told = f"of {len(in_time)} clicks in time and {len(late)} later ones; dropped: {dict(labels.dropped)}"
    assert in_time, f"no click was acknowledged in time: nothing is shown {told}"
    assert not false, f"{len(false)} became negatives {told}"
    assert not unlearned, f"{len(unlearned)} were never learned {told}"
    assert not lost, f"{len(lost)} later ones corrected nothing {told}"
    sent = {(click.request_id, click.item_id) for click in own}
    positives = {key for key, click in labels.learned.items() if click and key[0] in truth.shown}
    assert positives <= sent, f"{len(positives - sent)} positives that nobody clicked"
    return len(in_time), len(late), sum(key[0] in truth.shown for key in labels.learned)


def check_conversions(config: Config, truth: Truth, stored: Committed, records: list[Appended]) -> tuple[int, int]:
    """Every conversion acknowledged in time of a taught click is learned as one, once, and none that nobody sent.

    Once traffic ends event time stands still before the last of them are final; those are not looked at.

    Gives how many of them came behind the labels of their clicks, and all that are learned.
    """
    found = conversions_of(config, records, stored.snapshot.next_offset)
    assert not found.twice
    window, labels = config.join.conversion_window_s, config.join.window_s
    final = stored.snapshot.join.time.newest - window - RIPENS_S
    clicked = {(one.request_id, one.item_id) for one in truth.clicks if truth.in_time(one, config.join.horizon_s)}
    in_time = {
        (one.request_id, one.item_id): one
        for one in truth.conversions
        if (one.request_id, one.item_id) in clicked
        and truth.in_time(one, window)
        and one.request_id not in found.untaught
        and truth.shown[one.request_id].time < final
    }
    false = [key for key in in_time if not found.learned.get(key, True)]
    unlearned = in_time.keys() - found.learned.keys()
    assert in_time, "no conversion was acknowledged in time: nothing is shown"
    assert not false, f"{len(false)} of {len(in_time)} conversions in time are learned as none"
    assert not unlearned, f"{len(unlearned)} of {len(in_time)} conversions in time were never learned"
    positives = {key for key, converted in found.learned.items() if converted and key[0] in truth.shown}
    sent = {(one.request_id, one.item_id) for one in truth.conversions}
    assert positives <= sent, f"{len(positives - sent)} conversions that nobody sent"
    return sum(not truth.in_time(one, labels) for one in in_time.values()), len(positives)


def check_all(config: Config, truth: Truth, group: str = "main") -> str:
    """Checks labels and conversions of the group's log, and returns a summary in words."""
    newest = max(shown.time for name, shown in truth.shown.items() if group_of_request(name) == group)
    stored = settled(config, newest, group)
    partition = config.partition_of(group)
    assert partition is not None
    records = read_topic(config, config.topics.traffic, partition)
    check_exact(config, stored, records, group)
    clicks, late, examples = check_labels(config, truth, records, group)
    return (
        f"{truth.requests} requests answered, {truth.refused} refused; {examples} examples, {clicks} clicks in time, "
        f"{late} later, kernel {stored.snapshot.version} byte-identical"
    )
