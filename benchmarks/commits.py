"""Bytes that commits write per day for one group at a steady request rate, and the learning that a take-over repeats.

The live half of MovieLens is played into a group's machine in event time, with kernels and whole cuts as the processor
takes them, and the bytes of their keys and values are counted. There is no broker; its headers and markers are counted
as about 300 bytes per transaction.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.direct_play import Prepared, prepare
from features.store.feature_store import FeatureStore
from features.text import TextEncoder
from lab.pretraining import install_backbone, pretrained_backbone
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.fit import fitted
from lab.streams.recording import Recording
from model.gate.gate import LearnerCheckpoint
from streaming.backbone import OpenedBackbone, open_backbone
from streaming.config import Config, ProcessorConfig, load_config
from streaming.events import Progress, ServedFeedback, Tick, Traffic, encode_traffic
from streaming.group.assembly import new_machine
from streaming.group.corrections import LoggedRecord
from streaming.group.learned import PublishedKernel
from streaming.group.machine import GroupMachine
from streaming.kernel_log.closed import ClosedSegment, decode_segment
from streaming.kernel_log.rows import decode_row, encode_row
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from streaming.processor.commit import Cut, CutPlace, CutState, encode

RATE = 14.0
"""Requests per second."""
_DAY_S = 86_400.0
_TRANSACTION_BYTES = 300
"""Bytes of a batch header per topic and of the markers of a commit."""
_CLICK_S = 0.1
_Fed = tuple[int, bytes, float]
"""Offset, record and append time, as a machine takes them."""


@dataclass
class Written:
    """Bytes written by one way of committing."""

    sizes: Counter[str] = field(default_factory=Counter)
    transactions: int = 0

    def add(self, cut: Cut, number: int) -> None:
        """Counts one commit."""
        self.sizes.update(encode(cut, CutPlace(number, number % 2, "0" * 36)).size)
        self.transactions += 1

    def per_day(self, seconds: float) -> dict[str, float]:
        """Gigabytes a day by what they are, of what was written in so many seconds."""
        whole = dict(self.sizes) | {"transactions": self.transactions * _TRANSACTION_BYTES}
        return {kind: size / seconds * _DAY_S / 1e9 for kind, size in whole.items()}


class Committing:
    """A group that is committed in event time as the processor does it."""

    def __init__(self, machine: GroupMachine, config: ProcessorConfig) -> None:
        self.written = Written()
        self.cuts: list[CutState] = []
        self.closed: dict[int, ClosedSegment] = {}
        """Segments of closed requests before the last cut."""
        self.kept: list[LearnerCheckpoint] = []
        """States of the learner that it may go back to."""
        self._machine, self._config = machine, config
        self._cut_at = self._committed_at = 0.0
        self._kernel: PublishedKernel | None = None

    def due(self, now: float) -> bool:
        """Whether a commit is due at event time `now`; a processor is woken by a timer."""
        return now - self._committed_at >= self._config.commit_interval_s

    def step(self, now: float) -> None:
        """Commits at event time `now`, at which it is due."""
        self._committed_at = now
        kernel = self._machine.publisher.published
        fresh, self._kernel = None if kernel is self._kernel else kernel, kernel
        if now - self._cut_at >= self._config.snapshot_interval_s:
            self._cut_at = now
            self.written.add(Cut(fresh, self._whole()), self.written.transactions + 1)
        elif fresh is not None:
            self.written.add(Cut(fresh, None), self.written.transactions + 1)

    def _whole(self) -> CutState:
        machine = self._machine
        if self.cuts and self.cuts[-1].closed.segment is not None:
            self.closed[self.cuts[-1].closed.number] = decode_segment(self.cuts[-1].closed.segment)
        closed = machine.take_closed()
        rows, kept = machine.rows.take_changed(), machine.take_checkpoints()
        self.kept += kept
        self.cuts.append(CutState(machine.snapshot(), rows, machine.rows_offset, frozenset(), closed, kept=kept))
        return self.cuts[-1]


def records(prepared: Sequence[Prepared], rate: float = RATE) -> Iterator[tuple[float, Traffic]]:
    """The requests, `rate` a second, each click a tenth of a second later, and ingest's marks once a second."""
    clicks: deque[ServedFeedback] = deque()
    for number, request in enumerate(prepared):
        now = 1_000.0 + number / rate
        while clicks and clicks[0].time <= now:
            yield clicks[0].time, clicks.popleft()
        request_id = f"{request.group}.{number}"
        yield now, msgspec.structs.replace(request.impression, request_id=request_id, time=now)
        clicks.extend(ServedFeedback(request_id, item, now + _CLICK_S) for item in request.clicked)
        if number % round(rate) == 0:
            yield now, Progress({0: now}, 1)
            yield now, Tick(now)
    yield from ((click.time, click) for click in clicks)


def opened_run(base: Config, folder: Path, console: Console) -> tuple[Config, Recording]:
    """A folder with the backbone of MovieLens and a store with its profiles."""
    data = open_recording(base, StreamChoice(), console)
    config = fitted(base, data.catalogue).model_copy(update={"run_dir": folder, "backbone_path": None})
    install_backbone(pretrained_backbone(config, data, console), config.backbone_dir)
    store = FeatureStore(config.features, folder, text=TextEncoder(cache_dir=config.cache_dir))
    store.apply()
    store.write_users(data.users)
    store.write_items(data.items)
    return config, data


def take_over(config: Config, opened: OpenedBackbone, played: Committing, log: Sequence[_Fed]) -> float:
    """Seconds to restore the cut before the last one and to learn all up to the last one again."""
    machine = new_machine(config, opened, config.groups[0].name, _Log(log))
    rows = {(row.kind, row.key): row for cut in played.cuts[:-1] for row in cut.rows}
    stored = [encode_row("main", row, first=True) for row in rows.values()]
    whole = encode_snapshot(played.cuts[-2].snapshot)
    began = time.perf_counter()
    snapshot = decode_snapshot(whole, group=machine.group, fingerprint=opened.backbone.fingerprint)
    live = [decode_row(record.key, record.value or b"")[1] for record in stored]
    machine.restore(snapshot, live, played.closed, kept=played.kept)
    for fed in log[snapshot.resume_offset : played.cuts[-1].snapshot.next_offset]:
        machine.feed(*fed)
    return time.perf_counter() - began


class _Log:
    """A traffic log in memory, from which late clicks are looked up."""

    def __init__(self, log: Sequence[_Fed]) -> None:
        self._log = log

    def read(self, offset: int) -> LoggedRecord | None:
        """The record at `offset`."""
        _, value, appended = self._log[offset]
        return LoggedRecord(value, appended)


def main() -> int:
    """Prints the tables of commit volume and recovery time."""
    torch.set_num_threads(1)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="driftline-commits-") as folder:
        config, data = opened_run(load_config(), Path(folder), console)
        opened = open_backbone(config)
        prepared = prepare(config, data.requests("live"))
        log = [(number, encode_traffic(record), now) for number, (now, record) in enumerate(records(prepared))]
        machine = new_machine(config, opened, config.groups[0].name, _Log(log))
        played = Committing(machine, config.processor)
        for fed in log:
            machine.feed(*fed)
            if played.due(fed[2]):
                played.step(fed[2])
        again = take_over(config, opened, played, log)
    _print_result(console, config.processor, played, len(prepared) / RATE, again)
    return 0


def _print_result(console: Console, config: ProcessorConfig, played: Committing, seconds: float, again: float) -> None:
    table = Table("", "GB a day", title=f"Written by one group at {RATE:g} requests a second")
    day = played.written.per_day(seconds)
    for kind, size in day.items():
        table.add_row(kind, f"{size:.2f}")
    table.add_row("in all", f"{sum(day.values()):.2f}")
    snapshot = len(encode_snapshot(played.cuts[-1].snapshot))
    every = snapshot / config.commit_interval_s * _DAY_S / 1e9
    table.add_row("a snapshot with every commit would be", f"{every:.2f}")
    console.print(table)
    console.print(
        f"snapshot {snapshot:,} bytes; restoring a cut and learning {config.snapshot_interval_s:g} s again "
        f"takes {again:.2f} s ({seconds:.0f} s of traffic were played)",
        highlight=False,
    )
