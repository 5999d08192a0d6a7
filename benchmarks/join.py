"""Cost of the join: memory per open item, a take-over with a million open impressions, its share of learning.

There is no broker: a take-over's records come from memory, without the time of Kafka and of starting a process (the
tests in `tests/chaos` kill real processes). Learning is that of a group's machine on the live half of MovieLens.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.commits import Committing, opened_run, records
from benchmarks.direct_play import Prepared, prepare
from streaming.backbone import OpenedBackbone, open_backbone
from streaming.config import Config, JoinConfig, load_config
from streaming.events import (
    PAYLOADS,
    Progress,
    ServedFeedback,
    ServedImpression,
    Tick,
    Traffic,
    decode_traffic,
    encode_traffic,
)
from streaming.group.assembly import new_machine
from streaming.group.corrections import LoggedRecord
from streaming.group.machine import GroupMachine
from streaming.join.join import Join
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from streaming.processor.learning_thread import spare_collector

OPEN = 1_000_000
"""Impressions of one item that are open when the owner is killed."""
_MEASURED = 5_000
"""Requests whose memory is measured, with the items they have."""
_ROUNDS, _RATE = 4, 300.0
"""How often the log is learned, and requests a second of event time.

Commits are due by that time, so about as many are made as by a processor that learns as fast as it can, which is some
300 requests a second.
"""
_STARTS_S = 5.0
"""Event time from the end of the first windows until shares are measured, seconds."""
_BEGIN_S, _EVERY_S = 1_000.0, 1e-3
_WINDOW_S = 10_000.0
_CHUNK = 10_000
_EMPTY_CALLS = 100_000


class _NoLog:
    """A traffic log without records: no click is late in this benchmark."""

    def read(self, offset: int) -> LoggedRecord | None:
        """Returns None."""
        raise LookupError(offset)


def memory(prepared: list[Prepared]) -> tuple[float, float]:
    """Bytes that an open item takes beside its logged representation, and that representation."""
    join = Join(JoinConfig(window_s=_WINDOW_S, max_bytes=2**40))
    values = [
        encode_traffic(msgspec.structs.replace(item.impression, request_id=f"{item.group}.{number:032}", time=_BEGIN_S))
        for number, item in enumerate(prepared[:_MEASURED])
    ]
    items = logged = 0
    tracemalloc.start()
    for offset, value in enumerate(values):
        record = decode_traffic(value)
        assert isinstance(record, ServedImpression)
        items += len(record.items)
        logged += sum(len(getattr(record, name)) for name in PAYLOADS)
        join.feed(offset, record, _BEGIN_S)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (held - logged) / items, logged / items


@dataclass(frozen=True)
class TakenOver:
    """Processor time of a take-over, seconds."""

    snapshot_bytes: int
    restored: float
    reread: float
    """Time until everything that the snapshot refers to was read again."""
    learned: float
    """Time from then to the first learned example."""


def take_over(config: Config, opened: OpenedBackbone, prepared: Prepared, count: int) -> TakenOver:
    """Kills the owner of `count` open impressions, each the first item of `one`."""
    join = JoinConfig(window_s=_WINDOW_S, max_bytes=2**40)
    config = config.model_copy(update={"join": join})
    made, opener = _impressions(prepared), new_machine(config, opened, prepared.group, _NoLog())
    for offset in range(count):
        opener.feed(offset, made(offset), _BEGIN_S + offset * _EVERY_S)
    data = encode_snapshot(opener.snapshot())
    del opener
    gc.collect()
    gc.freeze()
    machine = new_machine(config, opened, prepared.group, _NoLog())
    began = time.thread_time()
    machine.restore(decode_snapshot(data, group=prepared.group, fingerprint=opened.backbone.fingerprint), [], {})
    restored, reread = time.thread_time() - began, 0.0
    for begin in range(0, count, _CHUNK):
        values = [made(offset) for offset in range(begin, min(begin + _CHUNK, count))]  # the log's part
        began = time.thread_time()
        for offset, value in enumerate(values, begin):
            machine.feed(offset, value, _BEGIN_S + offset * _EVERY_S)
            spare_collector(machine, offset)
        reread += time.thread_time() - began
    began = time.thread_time()
    learned = _close_some(machine, prepared.impression.items[0], config.learner.batch_examples)
    seconds = time.thread_time() - began
    assert learned
    return TakenOver(len(data), restored, reread, seconds)


def _impressions(prepared: Prepared) -> Callable[[int], bytes]:
    whole = prepared.impression
    first = {name: getattr(whole, name)[: len(getattr(whole, name)) // len(whole.items)] for name in PAYLOADS}

    def made(offset: int) -> bytes:
        return encode_traffic(
            msgspec.structs.replace(
                whole,
                request_id=f"{prepared.group}.{offset:032}",
                time=_BEGIN_S + offset * _EVERY_S,
                items=whole.items[:1],
                **first,
            )
        )

    return made


def _close_some(machine: GroupMachine, item: str, examples: int) -> bool:
    """Event time reaches the end of so many windows. All of these are clicked, as the frozen model expects here."""
    now = _BEGIN_S + _WINDOW_S + 2 * examples * _EVERY_S
    fed: list[Traffic] = [
        ServedFeedback(f"{machine.group}.{offset:032}", item, _BEGIN_S + offset * _EVERY_S)
        for offset in range(2 * examples + 2_000)
    ]
    fed += [Progress({0: now + 2.0}, 1), Tick(now + 2.0)]
    learned = [machine.feed(machine.position, encode_traffic(record), now + 2.0) for record in fed]
    return any(learned)


def shares(config: Config, opened: OpenedBackbone, prepared: list[Prepared]) -> tuple[dict[str, float], float]:
    """Seconds of each part of a play with its commits, and of all of it, from when the first windows have ended.

    Before that records are joined and nothing is learned from them.
    """
    log = [(encode_traffic(record), now) for now, record in records(prepared * _ROUNDS, _RATE)]
    machine = new_machine(config, opened, prepared[0].group, _NoLog())
    spent: dict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    committing = Committing(machine, config.processor)
    gate = machine.guarded.gate
    for part, owner, name in (
        ("join, with ingest's marks", machine.join, "feed"),
        ("gate: shares and labels", gate, "admit"),
        ("gate: harm and soundness", gate, "judge"),
        ("gate: kept states", gate, "keep"),
        ("commits: snapshots, rows, kernels", committing, "step"),
    ):
        setattr(owner, name, _timed(getattr(owner, name), spent, calls, part))
    whole, steady_at = 0.0, log[0][1] + config.join.window_s + _STARTS_S
    steady = next(offset for offset, (_, now) in enumerate(log) if now >= steady_at)
    for offset, (value, now) in enumerate(log):
        if offset == steady:
            spent.clear()
            calls.clear()
            whole = 0.0
        began = time.thread_time()
        machine.feed(offset, value, now)
        if committing.due(now):
            committing.step(now)
        whole += time.thread_time() - began
    counted, added = _cost_of_timing()
    fed = len(log) - steady
    whole -= counted * fed + added * sum(calls.values())
    return {part: seconds - counted * calls[part] for part, seconds in spent.items()}, whole


def _timed(call: Callable[..., Any], spent: dict[str, float], calls: Counter[str], part: str) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        began = time.thread_time()
        result = call(*given, **named)
        spent[part] += time.thread_time() - began
        calls[part] += 1
        return result

    return timed


def _cost_of_timing() -> tuple[float, float]:
    """Seconds that timing a call counts as its own, and that it adds to its caller; a join takes only microseconds."""
    spent: dict[str, float] = defaultdict(float)
    empty = _timed(lambda: None, spent, Counter(), "empty")
    began = time.thread_time()
    for _ in range(_EMPTY_CALLS):
        empty()
    return spent["empty"] / _EMPTY_CALLS, (time.thread_time() - began) / _EMPTY_CALLS


def _rows(taken: TakenOver, count: int) -> Iterator[tuple[str, str]]:
    yield "snapshot that refers to them", f"{taken.snapshot_bytes:,} bytes"
    yield "restored", f"{taken.restored:.2f} s"
    yield "read again", f"{taken.reread:.2f} s, {1e6 * taken.reread / count:.1f} µs each"
    yield "from there until the first windows end and are learned", f"{taken.learned:.2f} s"
    yield "in all", f"{taken.restored + taken.reread + taken.learned:.2f} s (goal: 5 s)"


def main() -> int:
    """Prints the tables of memory, take-over time and shares of the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", type=int, default=OPEN, help="impressions that are open at a take-over")
    count = parser.parse_args().open
    torch.set_num_threads(1)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="driftline-join-") as folder:
        config, data = opened_run(load_config(), Path(folder), console)
        opened, prepared = open_backbone(config), prepare(config, data.requests("live"))
        beside, logged = memory(prepared)
        console.print(f"an open item takes {beside:.0f} bytes beside the {logged:.0f} logged with it (goal: 300)")
        spent, whole = shares(config, opened, prepared)
        table = Table("", "of the time", title="Join, gate and commits beside learning (goal: 20 % together)")
        for part, seconds in spent.items():
            table.add_row(part, f"{seconds / whole:.1%}")
        table.add_row("together", f"{sum(spent.values()) / whole:.1%}")
        console.print(table)
        taken = take_over(config, opened, prepared[0], count)
    table = Table("", "", title=f"A take-over with {count:,} open impressions, processor time")
    for row in _rows(taken, count):
        table.add_row(*row)
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
