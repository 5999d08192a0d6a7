"""Examples learned end to end per second: first record produced to last example learned, through the real broker.

The stream is played as fast as the system takes it: impressions straight into `traffic`, clicks through ingest, the
processor joins, learns, commits transactions and pushes live features. The rival is a plain program without Driftline:
one process that reads the same log, joins in a dict and takes gradient steps, with no recovery, no snapshots and no
feature store.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.direct_play import play_directly, prepare
from lab.pretraining import install_backbone, pretrained_backbone
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.recording import Recording
from local.broker.local import LocalBroker
from local.demo.children import Children, Part
from local.demo.drain import wait_until_learned
from local.demo.settings import child_environment, demo_config, free_ports, write_config
from local.replay.run import publish_and_wait
from local.watchdog import Watchdog
from streaming.clients import make_consumer, quiet_client_logs
from streaming.config import Config, JoinConfig, load_config
from streaming.events import ServedFeedback, ServedImpression, Traffic, decode_traffic
from streaming.topics import ensure_topics

JOIN = JoinConfig(window_s=1.5, lateness_s=0.5)
"""Wide enough for the clicks' way through ingest; its end is waited for, and counts."""
_ROUNDS = 4
"""How often the live half is played; the last window is a small part of the time then."""
MAX_BACKLOG = 1_500
"""Clicks on their way through ingest at once."""
_OPEN_REQUESTS = 400
_POLL_MS, _SILENT_POLLS = 200, 2


@contextmanager
def running(console: Console) -> Iterator[tuple[Config, Recording]]:
    """Broker, ingest and processor on a folder of their own."""
    quiet_client_logs()
    base = load_config()
    with tempfile.TemporaryDirectory(prefix="driftline-pipeline-") as folder:
        data = open_recording(base, StreamChoice(), console)
        port = free_ports(1)[0]
        config = demo_config(
            base, data.catalogue, run_dir=Path(folder), bootstrap=f"127.0.0.1:{port}", own_topics=False
        )
        config = config.model_copy(update={"join": JOIN})
        install_backbone(pretrained_backbone(config, data, console), config.backbone_dir)
        watchdog = Watchdog()
        broker = LocalBroker(Path(folder) / "broker", config.cache_dir, port, watchdog=watchdog)
        children = Children(watchdog)
        try:
            broker.start()
            ensure_topics(config)
            ports = {"process": config.processor.metrics_port, "ingest": config.ingest.metrics_port}
            parts = [Part(name, f"http://127.0.0.1:{number}/healthz") for name, number in ports.items()]
            children.start(parts, Path(folder) / "logs", child_environment(config, write_config(config)))
            children.wait_ready(ports, 120.0)
            publish_and_wait(config, data, console, children.check)
            yield config, data
        finally:
            children.stop()
            if broker.running():
                broker.stop()
            watchdog.close()


class PlainLoop:
    """The plain program without Driftline: a join in a dict, a gradient step per micro-batch."""

    def __init__(self, width: int, batch_examples: int) -> None:
        self._model = torch.nn.Sequential(torch.nn.Linear(width, 48), torch.nn.ReLU(), torch.nn.Linear(48, 1))
        self._optimiser = torch.optim.Adam(self._model.parameters())
        self._batch_examples = batch_examples
        self._open: dict[str, ServedImpression] = {}
        self._clicked: set[tuple[str, str]] = set()
        self._rows: list[NDArray[np.float32]] = []
        self._labels: list[float] = []
        self.learned = 0

    def take(self, event: Traffic) -> None:
        """Remembers an impression or a click, and labels the oldest impression when too many are open."""
        if isinstance(event, ServedImpression):
            self._open[event.request_id] = event
        elif isinstance(event, ServedFeedback):
            self._clicked.add((event.request_id, event.item_id))
        if len(self._open) > _OPEN_REQUESTS:
            self._label_oldest()

    def finish(self) -> None:
        """Labels what is still open."""
        while self._open:
            self._label_oldest()

    def _label_oldest(self) -> None:
        request_id = next(iter(self._open))
        served = self._open.pop(request_id)
        self._rows.append(served.array("x"))
        self._labels.extend(float((request_id, item) in self._clicked) for item in served.items)
        self.learned += len(served.items)
        if len(self._labels) >= self._batch_examples:
            self._learn()

    def _learn(self) -> None:
        x, y = torch.from_numpy(np.concatenate(self._rows)), torch.tensor(self._labels)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self._model(x)[:, 0], y)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._rows.clear()
        self._labels.clear()


def plain_rate(config: Config) -> float:
    """Examples per second of the plain loop over the log that is already there."""
    loop = PlainLoop(config.backbone.width, config.learner.batch_examples)
    began = time.monotonic()
    silent_polls = 0
    with make_consumer(config.kafka, config.topics.traffic) as consumer:
        while silent_polls < _SILENT_POLLS:
            batch = [record for part in consumer.poll(timeout_ms=_POLL_MS).values() for record in part]
            silent_polls = 0 if batch else silent_polls + 1
            for record in batch:
                loop.take(decode_traffic(record.value))
    loop.finish()
    waited = _SILENT_POLLS * _POLL_MS / 1_000  # for the end of the log, which is no work
    return loop.learned / (time.monotonic() - began - waited)


def main() -> int:
    """Prints the throughput of the pipeline and of a plain loop."""
    torch.set_num_threads(1)
    console = Console()
    with running(console) as (config, data):
        prepared = prepare(config, data.requests("live")) * _ROUNDS
        played = play_directly(config, prepared, max_backlog=MAX_BACKLOG)
        learned = wait_until_learned(config, played.items, timeout_s=120.0)
        plain = plain_rate(config)
    table = Table(
        "", "examples/s", "ratio", title="As fast as it goes, MovieLens' live half four times through one broker"
    )
    seconds = learned.seen_at - played.began_at
    rate = learned.examples / seconds
    table.add_row("Driftline: ingest, join, live features, learner, transactions", f"{rate:,.0f}", "1")
    table.add_row("a loop by hand over the log that is already there", f"{plain:,.0f}", f"{plain / rate:.1f}")
    console.print(table)
    console.print(
        f"{learned.examples:,} of {played.items:,} examples learned in {seconds:.1f} s, the last click window of "
        f"{JOIN.window_s + JOIN.lateness_s:.1f} s included; {played.requests:,} impressions, {played.clicks:,} clicks "
        f"were written in {played.seconds:.1f} s; dropped by the join: {learned.dropped or 0}",
        highlight=False,
    )
    return 0 if learned.examples == played.items else 1
