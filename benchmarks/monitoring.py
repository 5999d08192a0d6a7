"""Cost of monitoring: its share of learning, its part of a scoring request, a scrape, and constant memory.

Learning is that of a group's machine on the live half of MovieLens, without a broker: the same records with and without
the monitor, in turns, by processor time after the start-up. The scrape is of a process whose one group has 64 domains.
Memory is that of a monitor after many examples; for ten million of them run
`python -m benchmarks.monitoring --examples 10000000`.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.commits import opened_run, records
from benchmarks.direct_play import prepare
from model.drift.config import DriftConfig
from model.drift.monitor import DriftMonitor
from model.drift.signs import LabelHealth
from model.encoding.domain import DomainSpace
from model.gate.feedback import FeedbackPath
from model.gate.guarded import GuardedBatch
from model.gate.scored_examples import Doubles, ScoredExamples, Strata
from streaming.backbone import OpenedBackbone, open_backbone
from streaming.config import Config, load_config
from streaming.events import ServedImpression, encode_traffic
from streaming.events.decisions import Decision
from streaming.group.assembly import new_machine
from streaming.group.corrections import LoggedRecord
from streaming.group.drift_monitor import GroupDriftMonitor
from streaming.group.machine import GroupMachine
from streaming.join.join import Join, LabelledRequest
from streaming.monitoring import metrics
from streaming.monitoring.health import HealthServer
from streaming.processor.drift_metrics import DriftMetrics
from streaming.processor.group_metrics import GroupMetrics
from streaming.processor.status import DriftView, ShownStrata
from streaming.scorer.score_window import ScoreWindow

EXAMPLES = 1_000_000
_BATCH, _PER_REQUEST, _WIDTH = 128, 8, 64
_CANDIDATES = 100
_ARMS = 2
_ROUNDS, _CHUNK = 3, 200
"""How often the log is fed, and records after which the machines with and without the monitor take turns.

The least time over the rounds counts for each chunk, because other work on the machine only adds to it.
"""


class _NoLog:
    """A traffic log without records: no click is late in this benchmark."""

    def read(self, offset: int) -> LoggedRecord | None:
        """Returns None."""
        raise LookupError(offset)


def learning(console: Console) -> None:
    """Measures the monitor's share of learning: the same records through a machine with it and one without."""
    with tempfile.TemporaryDirectory(prefix="driftline-monitoring-") as folder:
        config, data = opened_run(load_config(), Path(folder), console)
        opened = open_backbone(config)
        log = [(encode_traffic(record), now) for now, record in records(prepare(config, data.requests("live")))]
        gc.collect()
        gc.freeze()  # the log is no part of a machine
        rounds = [_pairs(config, opened, log) for _ in range(_ROUNDS)]
        gc.unfreeze()
    machine, pairs = rounds[-1][0], np.min([pairs for _, pairs in rounds], axis=0)
    space = config.domain_space()
    observed = GroupMetrics(machine.group, space, ShownStrata(space, space.domains()))
    look = statistics.median(_seconds(lambda: observed.status(machine, 0.0)) for _ in range(20))
    every, (cost, low, high) = config.processor.status_seconds, _cost(pairs)
    examples, seconds, alone = pairs.sum(axis=0).tolist()
    table = Table("", "", title="Monitoring beside learning (goal: at most 5 %)")
    table.add_row("examples per second of processor time, without", f"{examples / alone:,.0f}")
    table.add_row("with", f"{examples / seconds:,.0f}")
    table.add_row("of learning throughput, the monitor costs", f"{cost:.1%} ({low:.1%} to {high:.1%})")
    table.add_row("a look takes", f"{look * 1e3:.1f} ms: {look / every:.2%} of the {every:g} s between two")
    table.add_row("state of the monitor in a snapshot", f"{_state_bytes(machine.drift.monitor):,} bytes")
    console.print(table)


def _pairs(config: Config, opened: OpenedBackbone, log: Sequence[tuple[bytes, float]]) -> tuple[GroupMachine, Doubles]:
    """The machine with the monitor, and by chunk of records examples and processor seconds with it and without.

    The two take turns at each chunk. What they do before a fifth of the records is starting up, and not counted.
    """
    name = config.groups[0].name
    monitored, alone = (new_machine(config, opened, name, _NoLog()) for _ in range(2))
    alone.drift = _NoMonitoring(name, alone.guarded.gate, config.domain_space(), config.drift, None)
    pairs, first = [], len(log) // 5
    for begin in range(0, len(log), _CHUNK):
        before, seconds = monitored.publisher.examples, {}
        for machine in (monitored, alone) if begin % (2 * _CHUNK) else (alone, monitored):
            began = time.thread_time()
            for offset, (value, now) in enumerate(log[begin : begin + _CHUNK], begin):
                machine.feed(offset, value, now)
            seconds[machine] = time.thread_time() - began
        if begin >= first:
            pairs.append((monitored.publisher.examples - before, seconds[monitored], seconds[alone]))
    return monitored, np.array(pairs)


def _cost(pairs: Doubles) -> tuple[float, float, float]:
    """The monitor's share of throughput, with its 95 % interval over chunks (bootstrap)."""
    drawn = pairs[np.random.default_rng(0).integers(len(pairs), size=(2_000, len(pairs)))].sum(axis=1)
    low, high = np.quantile(1 - drawn[:, 2] / drawn[:, 1], (0.025, 0.975))
    _, seconds, alone = pairs.sum(axis=0)
    return 1 - alone / seconds, low, high


class _NoMonitoring(GroupDriftMonitor):
    """A drift monitor that does nothing: the cost of monitoring is the difference to it."""

    def served(self, record: ServedImpression) -> None:
        """Does nothing."""

    def decided(self, batch: GuardedBatch[LabelledRequest]) -> None:
        """Does nothing."""

    def judge(self, path: FeedbackPath, join: Join, dropped: Counter[str]) -> list[Decision]:
        """Does nothing."""
        return []

    def is_due(self, watermark: float) -> bool:
        """Never."""
        return False


def request(console: Console) -> None:
    """Measures the monitoring work of a scoring request: both arms' windows, and two observations."""
    windows, random = [ScoreWindow() for _ in range(_ARMS)], np.random.default_rng(0)
    scores = random.random(_CANDIDATES).astype(np.float32)
    times = []
    for _ in range(5_000):
        began = time.perf_counter()
        for window in windows:
            window.add(scores)
        metrics.scorer.SCORE_CANDIDATES.observe(_CANDIDATES)
        metrics.scorer.SCORE_SECONDS.observe(0.01)
        times.append(time.perf_counter() - began)
    table = Table("", "", title="Monitoring in a scoring request of 100 candidates (goal: at most 0.5 ms)")
    table.add_row("median", f"{statistics.median(times) * 1e3:.4f} ms")
    table.add_row("99 of 100", f"{float(np.quantile(times, 0.99)) * 1e3:.4f} ms")
    console.print(table)


def scrape(console: Console) -> None:
    """A scrape of a process whose group has 64 domains, each with all its series."""
    space = DomainSpace({"scene": [f"scene-{number}" for number in range(64)]})
    strata = Strata(space.values)
    monitor = DriftMonitor(strata, None, DriftConfig())
    blocks = _Blocks(space)
    for number in range(400):
        blocks.show(monitor, number)
    look = DriftView(list(zip(monitor.signals(), monitor.verdicts, strict=True)), 0, "first_examples")
    telling = _seconds(lambda: DriftMetrics("main").export(look))

    def ask(port: int) -> urllib.request.Request:
        return urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": "gzip"})

    with HealthServer("127.0.0.1", 0, {}) as server:
        times, size = [], 0
        for _ in range(30):
            began = time.perf_counter()
            with urllib.request.urlopen(ask(server.port), timeout=10) as answer:
                size = len(answer.read())
            times.append(time.perf_counter() - began)
    table = Table("", "", title="A scrape with 64 domains (goal: at most 50 ms)")
    table.add_row("median", f"{statistics.median(times) * 1e3:.1f} ms")
    table.add_row("most of 30", f"{max(times) * 1e3:.1f} ms")
    table.add_row("size", f"{size:,} bytes")
    table.add_row("setting all series", f"{telling * 1e3:.1f} ms")
    console.print(table)


def memory(console: Console, examples: int) -> None:
    """Resident memory of a monitor of 64 domains while it is shown `examples`."""
    space = DomainSpace({"scene": [f"scene-{number}" for number in range(64)]})
    monitor, blocks = DriftMonitor(Strata(space.values), None, DriftConfig()), _Blocks(space)
    process = psutil.Process()
    table = Table("examples", "resident memory", "state", title="Memory of a monitor of 64 domains (goal: flat)")
    began, number, marks = time.perf_counter(), 0, [examples * part // 10 for part in (1, 2, 4, 6, 8, 10)]
    for mark in marks:
        while number * _BATCH < mark:
            blocks.show(monitor, number)
            number += 1
        gc.collect()
        resident = process.memory_info().rss / 2**20
        table.add_row(f"{number * _BATCH:,}", f"{resident:.1f} MiB", f"{_state_bytes(monitor):,} bytes")
    seconds = time.perf_counter() - began
    console.print(table)
    console.print(f"{seconds / number * 1e3:.2f} ms per micro-batch of {_BATCH} with 64 domains", highlight=False)


class _Blocks:
    """Micro-batches of chance, shown before and with their labels; two hundred of them, over and over."""

    def __init__(self, space: DomainSpace) -> None:
        self._random = np.random.default_rng(0)
        self._space = space
        self._blocks = [self._block() for _ in range(200)]

    def _block(self) -> tuple[ScoredExamples, np.ndarray[tuple[int, int], np.dtype[np.float16]]]:
        random, requests = self._random, _BATCH // _PER_REQUEST
        domain = np.zeros((requests, 3), dtype=np.int64)
        domain[:, 0] = random.integers(1, self._space.sizes[0], size=requests)
        logit = random.normal(-1.0, 1.0, size=_BATCH)
        label = (random.random(_BATCH) < 1 / (1 + np.exp(-logit))).astype(np.float64)
        which = np.repeat(np.arange(requests), _PER_REQUEST)
        users, items = [f"u{n}" for n in range(requests)], [f"i{n}" for n in range(_BATCH)]
        seen = ScoredExamples(label, logit, logit + 0.1, which, users, items, domain, np.ones(requests, dtype=np.int64))
        return seen, random.normal(size=(_BATCH, _WIDTH)).astype(np.float16)

    def show(self, monitor: DriftMonitor, number: int) -> None:
        """The micro-batch `number`, at a second each."""
        (seen, x), now = self._blocks[number % len(self._blocks)], 1_000.0 + number
        monitor.served(seen.frozen, seen.live, x, seen.domain[seen.request], now)
        monitor.learned(seen, np.ones(_BATCH), seen.live, now)
        strata = 1 + sum(self._space.sizes)
        monitor.judge(LabelHealth(np.zeros(strata, dtype=np.bool_)), now)


def _state_bytes(monitor: DriftMonitor) -> int:
    return len(msgspec.msgpack.encode(monitor.state()))


def _seconds(done: Callable[[], object]) -> float:
    began = time.perf_counter()
    done()
    return time.perf_counter() - began


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the tables of the cost of monitoring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring", description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="that the monitor is shown for its memory")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console()
    learning(console)
    request(console)
    scrape(console)
    memory(console, options.examples)
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
