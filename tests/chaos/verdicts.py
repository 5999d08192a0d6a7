"""What must be true of a log whatever happened to the processes that wrote and read it."""

from __future__ import annotations

import time

from streaming.config import Config, group_of_request
from tests.chaos.driver import Truth
from tests.chaos.log_reader import Appended, Committed, committed, labels_of, read_topic, undisturbed

SETTLE_S = 40.0


def settled(config: Config, newest: float, group: str = "main") -> Committed:
    """The group once its windows up to event time `newest` are closed and committed."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        stored = committed(config, group)
        if stored is not None and stored.snapshot.join.time.newest > newest and not stored.snapshot.join.open:
            return stored
        time.sleep(0.5)
    raise AssertionError(f"group {group}: the windows up to {newest} were not closed within {SETTLE_S:.0f} s: {stored}")


def check_exact(config: Config, stored: Committed, records: list[Appended], group: str = "main") -> None:
    """No record is lost or learned twice: one undisturbed pass over the log gives the same state, bit for bit."""
    expected = undisturbed(config, records, stored.snapshot.next_offset, group)
    assert stored.snapshot.examples == expected.snapshot.examples
    assert stored.snapshot.version == expected.snapshot.version
    assert stored.snapshot.learner == expected.snapshot.learner
    # Garbage under keys of nobody may stand beside them; what belongs to somebody is as it must be.
    assert {key: stored.rows.get(key) for key in expected.rows} == expected.rows


def check_labels(config: Config, truth: Truth, records: list[Appended], group: str = "main") -> tuple[int, int]:
    """No click that was acknowledged in time is learned as a negative; the clicks looked at, and the examples."""
    labels = labels_of(config, records)
    assert not labels.twice
    in_time = [click for click in truth.in_time(config.join.window_s) if group_of_request(click.request_id) == group]
    false = [click for click in in_time if labels.learned.get((click.request_id, click.item_id)) is False]
    unlearned = [click for click in in_time if (click.request_id, click.item_id) not in labels.learned]
    assert not false, f"{len(false)} of {len(in_time)} clicks in time became negatives; dropped: {dict(labels.dropped)}"
    assert not unlearned, f"{len(unlearned)} of {len(in_time)} were never learned; dropped: {dict(labels.dropped)}"
    sent = {(click.request_id, click.item_id) for click in truth.clicks}
    invented = [key for key, click in labels.learned.items() if click and key[0] in truth.shown and key not in sent]
    assert not invented, f"positives that nobody clicked: {invented[:3]}"
    return len(in_time), sum(key[0] in truth.shown for key in labels.learned)


def check_all(config: Config, truth: Truth, group: str = "main") -> str:
    """Both of the above on the group's log as it stands; what was seen, in words."""
    newest = max(shown.time for name, shown in truth.shown.items() if group_of_request(name) == group)
    stored = settled(config, newest, group)
    partition = config.partition_of(group)
    assert partition is not None
    records = read_topic(config, config.topics.traffic, partition)
    check_exact(config, stored, records, group)
    clicks, examples = check_labels(config, truth, records, group)
    return (
        f"{truth.requests} requests answered, {truth.refused} refused; {examples} examples, {clicks} clicks in time, "
        f"kernel {stored.snapshot.version} byte-identical"
    )
