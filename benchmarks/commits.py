"""What commits write: bytes a day of one group at a steady rate of requests, and what a take-over has to do again.

The live half of MovieLens is played into a group's machine in event time, with kernels and whole cuts as the processor
takes them, and the bytes of their keys and values are counted. Beside them stands what it would be if every commit were
a whole cut. No broker: it would add headers and markers, about 300 bytes a transaction, which are counted as such.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.direct_play import Prepared, prepare
from features.live.features import LiveRow
from features.store.feature_store import FeatureStore
from features.text import TextEncoder
from lab.pretraining import install_backbone, pretrained_backbone
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.fit import fitted
from lab.streams.recording import Recording
from streaming.backbone import OpenedBackbone, open_backbone
from streaming.config import Config, load_config
from streaming.events import Progress, ServedFeedback, Tick, Traffic, encode_traffic
from streaming.kernel_log.rows import decode_row, encode_row
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from streaming.processor.commit import Cut, CutPlace, CutState, encode
from streaming.processor.machine import GroupMachine, PublishedKernel
from streaming.processor.owned_group import new_machine

RATE = 14.0
"""Requests per second."""
_DAY_S = 86_400.0
_TRANSACTION_BYTES = 300
"""Of a batch's header per topic and the markers of a commit."""
_CLICK_S = 0.1
_Fed = tuple[int, bytes, float]
"""Offset, record and append time, as a machine takes them."""


@dataclass
class Written:
    """What one way to commit writes."""

    sizes: Counter[str] = field(default_factory=Counter)
    transactions: int = 0

    def add(self, cut: Cut, number: int) -> None:
        """Counts one commit."""
        self.sizes.update(encode(cut, CutPlace(number, number % 2, "0" * 36)).size)
        self.transactions += 1

    def per_day(self, seconds: float) -> dict[str, float]:
        """Gigabytes a day by what they are, of what was written in so many seconds."""
        whole = dict(self.sizes) | {"transactions": self.transactions * _TRANSACTION_BYTES}
        return {what: size / seconds * _DAY_S / 1e9 for what, size in whole.items()}


class Committing:
    """A group that is committed in event time: a kernel as soon as there is one, a whole cut every `interval_s`."""

    def __init__(self, machine: GroupMachine, interval_s: float) -> None:
        self.written = Written()
        self.cuts: list[CutState] = []
        self._machine, self._interval_s = machine, interval_s
        self._changed: dict[tuple[str, str], LiveRow] = {}
        self._cut_at = 0.0
        self._kernel: PublishedKernel | None = None

    def step(self, now: float, changed: Sequence[LiveRow]) -> None:
        """Commits what is due at event time `now`; `changed` are the rows that were touched since the last call."""
        self._changed |= {(row.kind, row.key): row for row in changed}
        kernel = self._machine.published
        fresh, self._kernel = None if kernel is self._kernel else kernel, kernel
        if now - self._cut_at >= self._interval_s:
            rows, self._changed, self._cut_at = list(self._changed.values()), {}, now
            self.cuts.append(CutState(self._machine.snapshot(), rows, self._machine.rows_offset, frozenset()))
            self.written.add(Cut(fresh, self.cuts[-1]), self.written.transactions + 1)
        elif fresh is not None:
            self.written.add(Cut(fresh, None), self.written.transactions + 1)


def records(prepared: Sequence[Prepared]) -> Iterator[tuple[float, Traffic]]:
    """The requests at `RATE`, each with its clicks, and ingest's marks once a second."""
    now = 1_000.0
    for number, one in enumerate(prepared):
        now = 1_000.0 + number / RATE
        request_id = f"{one.group}.{number}"
        yield now, msgspec.structs.replace(one.impression, request_id=request_id, time=now)
        for item in one.clicked:
            yield now, ServedFeedback(request_id, item, now + _CLICK_S)
        if number % round(RATE) == 0:
            yield now, Progress({0: now}, 1)
            yield now, Tick(now)


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


def take_over(config: Config, opened: OpenedBackbone, cuts: Sequence[CutState], log: Sequence[_Fed]) -> float:
    """Seconds to restore the cut before the last one and to learn all up to the last one again."""
    machine = new_machine(config, opened, config.groups[0].name)
    rows = {(row.kind, row.key): row for cut in cuts[:-1] for row in cut.rows}
    stored = [encode_row("main", row, first=True) for row in rows.values()]
    whole = encode_snapshot(cuts[-2].snapshot)
    began = time.perf_counter()
    snapshot = decode_snapshot(whole, group=machine.group, fingerprint=opened.backbone.fingerprint)
    machine.restore(snapshot, [decode_row(record.key, record.value or b"")[1] for record in stored])
    for fed in log[snapshot.resume_offset : cuts[-1].snapshot.next_offset]:
        machine.feed(*fed)
    return time.perf_counter() - began


def main() -> int:
    """Prints the tables."""
    torch.set_num_threads(1)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="driftline-commits-") as folder:
        config, data = opened_run(load_config(), Path(folder), console)
        opened = open_backbone(config)
        prepared = prepare(config, data.requests("live"))
        log = [(number, encode_traffic(record), now) for number, (now, record) in enumerate(records(prepared))]
        machine = new_machine(config, opened, config.groups[0].name)
        processor = config.processor
        ways = [
            Committing(machine, seconds) for seconds in (processor.snapshot_interval_s, processor.commit_interval_s)
        ]
        committed = 0.0
        for fed in log:
            machine.feed(*fed)
            if fed[2] - committed >= processor.commit_interval_s:
                committed, changed = fed[2], machine.live.take_changed()
                for way in ways:
                    way.step(committed, changed)
        again = take_over(config, opened, ways[0].cuts, log)
    _tell(console, config, ways, len(prepared) / RATE, again)
    return 0


def _tell(console: Console, config: Config, ways: Sequence[Committing], seconds: float, again: float) -> None:
    title = f"Written by one group at {RATE:g} requests a second, GB a day"
    table = Table("whole cut every", "kernel", "snapshot", "rows", "transactions", "in all", title=title)
    intervals = (config.processor.snapshot_interval_s, config.processor.commit_interval_s)
    for interval, way in zip(intervals, ways, strict=True):
        day = way.written.per_day(seconds)
        parts = [day.get(what, 0.0) for what in ("kernel", "snapshot", "rows", "transactions")]
        table.add_row(f"{interval:g} s", *[f"{part:.2f}" for part in parts], f"{sum(day.values()):.2f}")
    console.print(table)
    snapshot = encode_snapshot(ways[0].cuts[-1].snapshot)
    console.print(
        f"snapshot {len(snapshot):,} bytes; restoring a cut and learning the {intervals[0]:g} s behind it again "
        f"takes {again:.2f} s ({seconds:.0f} s of traffic were played)",
        highlight=False,
    )
