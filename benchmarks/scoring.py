"""Scoring 100 candidates, 50 requests a second, on real parts: kernel on and off, beside a learning processor.

Open loop: a request leaves at its planned time whether or not the one before was answered, and its latency counts from
that time. All figures of one run come from one machine in one state; read the ratios.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from lab.pretraining import install_backbone, pretrained_backbone
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.recording import Recording
from local.broker import LocalBroker
from local.demo.children import Children, Part
from local.demo.settings import child_environment, demo_config, free_ports, write_config
from local.probe import get, scrape
from local.replay.publish import Publisher
from local.replay.run import publish_and_wait, scorer_address
from local.watchdog import Watchdog
from streaming.clients import quiet_client_logs
from streaming.config import load_config
from streaming.events import FeedbackEvent
from streaming.scorer.schema import DomainFacets, ScoreRequest, ScoreResponse
from streaming.topics import ensure_topics

RATE = 50.0
CALM = 5.0
"""Requests per second that the plain endpoint can follow too: only there can the two be compared."""
CANDIDATES = 100
SHOWN = 10
SECONDS = 20.0
WARM_S = 6.0
_CLICK_SHARE = 0.4
_JSON = {"Content-Type": "application/json"}


@dataclass
class Measured:
    """Latencies and failures of one load phase."""

    rate: float = RATE
    """Requests per second that were sent."""
    latencies_ms: list[float] = field(default_factory=list)
    failed: int = 0
    learned: float = 0.0
    """Examples the processor learned per second meanwhile."""
    versions: set[int] = field(default_factory=set)
    memory_mb: float = 0.0

    def quantile(self, share: float) -> float:
        """A quantile of the latency, milliseconds."""
        return float(np.quantile(self.latencies_ms, share)) if self.latencies_ms else float("nan")


class Load:
    """The open-loop generator; clicks on what was shown go to Kafka if a publisher is given."""

    def __init__(self, address: str, data: Recording, clicks: Publisher | None) -> None:
        self._address, self._clicks = address, clicks
        self._users = [user.user_id for user in data.users]
        self._items = [item.item_id for item in data.items]
        self._domains = sorted({request.domain for request in data.requests("live")}, key=lambda domain: domain.key)
        self._random = random.Random(7)

    async def run(self, seconds: float, rate: float) -> Measured:
        """Sends for `seconds` and waits for the last answer."""
        measured = Measured(rate)
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            began = time.perf_counter()
            for number in range(int(seconds * rate)):
                planned = began + number / rate
                await asyncio.sleep(max(0.0, planned - time.perf_counter()))
                tasks.create_task(self._one(session, planned, measured))
        return measured

    async def _one(self, session: aiohttp.ClientSession, planned: float, measured: Measured) -> None:
        pick = self._random
        domain = pick.choice(self._domains)
        facets = DomainFacets(domain.scene, domain.region, domain.period)
        asked = ScoreRequest(pick.choice(self._users), pick.sample(self._items, CANDIDATES), facets, SHOWN)
        try:
            async with session.post(
                f"{self._address}/v1/score", data=msgspec.json.encode(asked), headers=_JSON
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError):
            measured.failed += 1
            return
        if response.status != 200:
            measured.failed += 1
            return
        measured.latencies_ms.append((time.perf_counter() - planned) * 1_000)
        if self._clicks is not None:
            self._click(msgspec.json.decode(body, type=ScoreResponse), measured)

    def _click(self, answer: ScoreResponse, measured: Measured) -> None:
        assert self._clicks is not None
        measured.versions.add(answer.kernel_version)
        for score in answer.scores:
            if self._random.random() < _CLICK_SHARE:
                self._clicks.send(FeedbackEvent(answer.request_id, score.item_id, time.time()))


class Bench:
    """Broker and processes on a folder of their own."""

    def __init__(self, folder: Path, broker: LocalBroker, watchdog: Watchdog, console: Console) -> None:
        self._console = console
        self._watchdog = watchdog
        self.data = open_recording(load_config(), StreamChoice(), console)
        self.config = demo_config(
            load_config(), self.data.catalogue, run_dir=folder, bootstrap=broker.address, own_topics=False
        )
        install_backbone(pretrained_backbone(self.config, self.data, console), self.config.backbone_dir)
        ensure_topics(self.config)

    @contextmanager
    def processes(self, *names: str, live_arm: bool = True) -> Iterator[Children]:
        """The named processes, ready."""
        scorer = self.config.scorer.model_copy(update={"live_arm": live_arm})
        config = self.config.model_copy(update={"scorer": scorer})
        ports = {"ingest": config.ingest.metrics_port, "process": config.processor.metrics_port}
        ready = {name: f"http://127.0.0.1:{port}/healthz" for name, port in ports.items()}
        ready["serve"] = f"{scorer_address(config)}/readyz"
        children = Children(self._watchdog)
        environment = child_environment(config, write_config(config))
        children.start([Part(name, ready[name]) for name in names], config.run_dir / "logs", environment)
        try:
            children.wait_ready(names, 180)
            yield children
        finally:
            children.stop()

    def fill(self) -> None:
        """Writes all profiles to the store, through ingest."""
        publish_and_wait(self.config, self.data, self._console)

    def measure(
        self,
        children: Children | None,
        *,
        learning: bool = False,
        address: str | None = None,
        rate: float = RATE,
    ) -> Measured:
        """Measures one phase, after a short one that is discarded."""
        clicks = Publisher(self.config) if learning else None
        load = Load(address or scorer_address(self.config), self.data, clicks)
        asyncio.run(load.run(WARM_S, rate))
        before, began = self._learned() if learning else 0.0, time.monotonic()
        measured = asyncio.run(load.run(SECONDS, rate))
        if learning:
            measured.learned = (self._learned() - before) / (time.monotonic() - began)
        if children is not None:
            measured.memory_mb = psutil.Process(children.pids()["serve"]).memory_info().rss / 2**20
        return measured

    def _learned(self) -> float:
        return scrape(self.config.processor.metrics_port).total("driftline_examples_learned_total")

    @contextmanager
    def plain(self) -> Iterator[str]:
        """The endpoint that a user would write; its address."""
        (port,) = free_ports(1)
        path = write_config(self.config)
        command = [sys.executable, "-m", "benchmarks.scoring_plain", str(path), str(port)]
        process = subprocess.Popen(command, env=child_environment(self.config, path))
        self._watchdog.add(process.pid)
        try:
            _wait(f"http://127.0.0.1:{port}/readyz", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
            self._watchdog.remove(process.pid)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            get(url)
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"the plain endpoint ended with exit code {process.returncode}")


def _table(rows: Sequence[tuple[str, Measured]]) -> Table:
    plain = rows[-1][1]
    table = Table(title=f"Scoring {CANDIDATES} candidates, open loop, {SECONDS:.0f} s each; : plain is at {CALM:.0f}/s")
    table.add_column("", no_wrap=True)
    for name in ("req/s", "p50 ms", "p99 ms", "p50 : plain", "p99 : plain", "failed", "learned/s", "kernels", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows:
        p50, p99 = row.quantile(0.5), row.quantile(0.99)
        ratios = ["", ""]
        if row.rate == plain.rate:
            ratios = [f"{p50 / plain.quantile(0.5):.2f}", f"{p99 / plain.quantile(0.99):.2f}"]
        learned = f"{row.learned:.0f}" if row.learned else ""
        memory = f"{row.memory_mb:.0f}" if row.memory_mb else ""
        counts = [str(row.failed), learned, str(len(row.versions) or ""), memory]
        table.add_row(name, f"{row.rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", *ratios, *counts)
    return table


def main() -> int:
    """Runs every phase and prints one table."""
    console = Console()
    wide = Console(width=max(console.width, 140))  # a figure that is cut off is no figure
    quiet_client_logs()
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder, Watchdog() as watchdog:
        broker = LocalBroker(Path(folder) / "kafka", load_config().cache_dir, watchdog=watchdog, console=console)
        broker.start()
        bench = Bench(Path(folder) / "run", broker, watchdog, console)
        rows: list[tuple[str, Measured]] = []
        try:
            with bench.processes("ingest", "process", "serve") as children:
                bench.fill()
                rows.append(("kernel, processor learning", bench.measure(children, learning=True)))
            with bench.processes("serve") as children:
                rows.append(("kernel alone", bench.measure(children)))
            with bench.processes("serve", live_arm=False) as children:
                rows.append(("kernel off", bench.measure(children)))
            with bench.processes("serve") as children:
                rows.append(("kernel alone", bench.measure(children, rate=CALM)))
            with bench.plain() as address:
                rows.append(("plain sync endpoint", bench.measure(None, address=address, rate=CALM)))
        finally:
            broker.stop()
    wide.print(_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
