"""Examples learned end to end per second: first record produced to last example learned, through the real broker.

The stream is played as fast as the system takes it: impressions straight into `traffic`, clicks through ingest, the
processor joins, learns, commits transactions and pushes live features. Beside it stands what one would write without
Driftline: one process that reads the same log, joins in a dict and takes gradient steps by hand, with no recovery, no
gate, no snapshots and no feature store.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.direct_play import pour, prepare
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
from streaming.events import ServedFeedback, ServedImpression, decode_traffic
from streaming.topics import ensure_topics

JOIN = JoinConfig(window_s=1.5, lateness_s=0.5)
"""Wide enough for the clicks' way through ingest; its end is waited for, and counts."""
MOST_AHEAD = 1_500
"""Clicks on their way through ingest at once."""


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
            children.wait_ready(120.0)
            publish_and_wait(config, data, console, children.check)
            yield config, data
        finally:
            children.stop()
            if broker.running():
                broker.stop()
            watchdog.close()


def by_hand(config: Config) -> float:
    """Examples per second of a plain loop over the same log: join in a dict, a gradient step per 128 examples."""
    model = torch.nn.Sequential(torch.nn.Linear(config.backbone.width, 48), torch.nn.ReLU(), torch.nn.Linear(48, 1))
    optimiser = torch.optim.Adam(model.parameters())
    shown: dict[str, ServedImpression] = {}
    clicked: set[tuple[str, str]] = set()
    rows: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    labels: list[float] = []
    learned = 0

    def learn() -> None:
        x, y = torch.from_numpy(np.concatenate(rows)), torch.tensor(labels)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rows.clear()
        labels.clear()

    def close(request_id: str) -> None:
        nonlocal learned
        served = shown.pop(request_id)
        rows.append(served.array("x"))
        labels.extend(float((request_id, item) in clicked) for item in served.items)
        learned += len(served.items)
        if len(labels) >= config.learner.batch_examples:
            learn()

    began = time.monotonic()
    with make_consumer(config.kafka, config.topics.traffic) as consumer:
        silent = 0
        while silent < 2:
            batch = [record for part in consumer.poll(timeout_ms=200).values() for record in part]
            silent = 0 if batch else silent + 1
            for record in batch:
                event = decode_traffic(record.value)
                if isinstance(event, ServedImpression):
                    shown[event.request_id] = event
                elif isinstance(event, ServedFeedback):
                    clicked.add((event.request_id, event.item_id))
            while len(shown) > 400:
                close(next(iter(shown)))
    while shown:
        close(next(iter(shown)))
    return learned / (time.monotonic() - began - 0.4)


def main() -> int:
    """Prints the table."""
    torch.set_num_threads(1)
    console = Console()
    with running(console) as (config, data):
        prepared = prepare(config, data.requests("live"))
        poured = pour(config, prepared, most_ahead=MOST_AHEAD)
        learned = wait_until_learned(config, poured.items, timeout_s=60.0)
        plain = by_hand(config)
    table = Table("", "examples/s", "ratio", title="As fast as it goes, MovieLens' live half through one broker")
    seconds = learned.seen_at - poured.began_at
    rate = learned.examples / seconds
    table.add_row("Driftline: ingest, join, live features, learner, transactions", f"{rate:,.0f}", "1")
    table.add_row("a loop by hand over the log that is already there", f"{plain:,.0f}", f"{plain / rate:.1f}")
    console.print(table)
    console.print(
        f"{learned.examples:,} of {poured.items:,} examples learned in {seconds:.1f} s, the last click window of "
        f"{JOIN.window_s + JOIN.lateness_s:.1f} s included; {poured.requests:,} impressions, {poured.clicks:,} clicks "
        f"were written in {poured.seconds:.1f} s; dropped by the join: {learned.dropped or 0}",
        highlight=False,
    )
    return 0 if learned.examples == poured.items else 1
