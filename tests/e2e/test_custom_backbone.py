"""A backbone of the user's own through real processes: pretrained, served, learned on, the processor killed once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from rich.console import Console

from features.live.layout import OVERALL
from features.store.feature_store import FeatureStore
from lab.streams.choice import StreamChoice
from lab.streams.fit import config_for
from local.demo.settings import child_environment, free_ports, write_config
from streaming.config import Config, JoinConfig

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "custom_backbone.py"
MAPPING = "interactions: {user: user, item: item, time: time, label: label}\n"
USERS, ITEMS = 12, 8
PARTS = ("train", "validation")
PATIENCE_S = 600
"""Bounds a test that hangs; a busy machine takes minutes to start three processes."""


@pytest.fixture
def choice(tmp_path: Path) -> StreamChoice:
    """A log in which every user likes the items of their own parity."""
    random = np.random.default_rng(3)
    rows = ["user,item,time,label"]
    for number in range(1_200):
        user, item = int(random.integers(USERS)), int(random.integers(ITEMS))
        clicked = random.random() < (0.8 if user % 2 == item % 2 else 0.1)
        rows.append(f"u{user},i{item},{1_767_225_600 + 60 * number},{int(clicked)}")
    log, mapping = tmp_path / "log.csv", tmp_path / "mapping.yaml"
    log.write_text("\n".join(rows) + "\n")
    mapping.write_text(MAPPING)
    return StreamChoice(log=log, mapping=str(mapping))


@pytest.fixture
def config(stream_config: Config, cache_dir: Path, choice: StreamChoice, tmp_path: Path) -> Config:
    """The session's broker, the example as the backbone, short windows and small batches."""
    (tmp_path / "cache").mkdir()
    (cache_dir / "text").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "text").symlink_to(cache_dir / "text")
    scorer, ingest, processor = free_ports(3)
    sections = {
        "backbone": {"factory": f"{EXAMPLE}:deepfm"},
        "pretrain": {"epochs": 3, "batch_size": 64, "learning_rate": 1e-2},
        "learner": {"batch_examples": 16, "publish_seconds": 0.1},
        "ingest": {"metrics_port": ingest, "idle_tick_s": 0.2},
        "processor": {
            "metrics_port": processor,
            "commit_interval_s": 0.1,
            "snapshot_interval_s": 0.2,
            "session_timeout_s": 6.0,
        },
        "scorer": {"port": scorer, "metrics_port": 0},
    }
    changed = {name: getattr(stream_config, name).model_copy(update=values) for name, values in sections.items()}
    base = stream_config.model_copy(
        update=changed | {"cache_dir": tmp_path / "cache", "join": JoinConfig(window_s=0.5, lateness_s=0.1)}
    )
    return config_for(base, choice, Console(quiet=True))


class System:
    """The processes of one run, all on one configuration file."""

    def __init__(self, config: Config) -> None:
        config.run_dir.mkdir(parents=True)
        self._folder = config.run_dir
        self._environment = child_environment(config, write_config(config))
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        path = self._folder / f"{len(self.started)}-{command[0]}.log"
        program = str(Path(sys.executable).with_name("driftline"))
        with path.open("wb") as log:
            process = subprocess.Popen([program, *command], env=self._environment, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def run(self, *command: str) -> None:
        assert self.start(*command).wait(PATIENCE_S) == 0, self.logs()

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-3_000:]}" for path in sorted(self._folder.glob("*.log")))


@pytest.fixture
def system(config: Config) -> Iterator[System]:
    running = System(config)
    yield running
    for process in running.started:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    """Whether a process reports at this address that it is ready."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


class Traffic:
    """Requests and clicks over HTTP. The taste is another than the log's, so there is something to learn; it is not the
    log's turned round, which the gate would take for labels that are wrong."""

    def __init__(self, client: httpx.Client, system: System) -> None:
        self._client, self._system = client, system
        self._asked = 0

    def ready(self) -> bool:
        return answers(str(self._client.base_url.join("/readyz")))

    def version(self) -> int:
        """Version of the kernel that a request is answered with."""
        user = self._asked % USERS
        self._asked += 1
        request = {"user_id": f"u{user}", "candidates": [f"i{item}" for item in range(ITEMS)]}
        response = self._client.post("/v1/score", json=request)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert len(answer["scores"]) == ITEMS
        clicks = [
            {"event": "feedback", "request_id": answer["request_id"], "item_id": f"i{item}", "time": time.time()}
            for item in range(ITEMS)
            if item % 3 == user % 3
        ]
        for click in clicks:
            assert self._client.post("/v1/events", json=click).status_code == 202
        return int(answer["kernel_version"])

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, self._system.logs()
            time.sleep(0.05)


def test_the_documented_custom_backbone_is_pretrained_served_adapted_and_survives_a_kill(
    config: Config, choice: StreamChoice, system: System
) -> None:
    system.run("pretrain", "--log", str(choice.log), "--mapping", str(choice.mapping))
    card = json.loads((config.backbone_dir / "card.json").read_text())
    assert card["pretrain"]["validation_auc"] > 0.7
    assert card["backbone"]["config"]["factory"] == f"{EXAMPLE}:deepfm"
    system.run("setup")
    system.start("ingest")
    system.start("serve")
    processor = system.start("process")
    with httpx.Client(base_url=f"http://127.0.0.1:{config.scorer.port}", trust_env=False) as client:
        traffic = Traffic(client, system)
        traffic.until(lambda: answers(f"http://127.0.0.1:{config.processor.metrics_port}/healthz"))
        row = FeatureStore(config.features, config.run_dir).read_live("domain", [OVERALL], time.time(), "main")[0]
        assert row is not None and row.values[-2] == sum(card["pretrain"][f"{part}_examples"] for part in PARTS)
        traffic.until(traffic.ready)
        traffic.until(lambda: traffic.version() > 2)
        processor.send_signal(signal.SIGKILL)
        processor.wait()
        learned = traffic.version()
        system.start("process")
        traffic.until(lambda: traffic.version() > learned + 2)
        kernels = client.get("/v1/kernels").json()
    assert kernels["refusals"] == []
    examples = [swap["examples"] for swap in kernels["swaps"]]
    assert examples == sorted(examples)
    assert "no snapshot" not in (config.run_dir / f"{len(system.started) - 1}-process.log").read_text()
