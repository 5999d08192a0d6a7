"""Processors as processes on the real broker, what they are fed, and the kernels they must end with."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from streaming.clients import make_producer
from streaming.config import Config
from streaming.events import Progress
from streaming.kernel_log.cuts import choose
from streaming.kernel_log.keys import SLOTS, kernel_key, learner_key
from streaming.kernel_log.snapshot import GroupSnapshot, decode_snapshot
from streaming.topic_scan import scan
from tests.streaming.group.tiny import (
    BACKBONE,
    appended,
    encoded,
    machine,
    traffic,
)
from tests.streaming.processor import tiny_processor

REQUESTS = 400
GROUPS = ("main", "other")


@functools.cache
def group_records(index: int) -> list[bytes]:
    """An ingest that is never behind: it has read all that the broker's clock, now, may mean."""
    records = traffic(REQUESTS, seed=index, prefix=f"{GROUPS[index]}.r")
    return encoded([Progress({0: 1e12}, 1) if isinstance(record, Progress) else record for record in records])


class Workers:
    """Processor processes of one test."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._file = folder / "driftline.json.toml"
        self._folder = folder
        # Folders of their own: other tests that run beside this one write to the common ones.
        self.working, self.scratch = folder / "working", folder / "scratch"
        self.working.mkdir()
        self.scratch.mkdir()
        self._environment = config_environment(config) | {"TMPDIR": str(self.scratch)}
        self.alive: list[BaseProcess] = []
        self._file.write_text("")

    def start(self) -> BaseProcess:
        log = self._folder / f"worker{len(self.alive)}.log"
        # The first alone is asked for its health; a second one on this machine needs a port of its own.
        port = {"DRIFTLINE_PROCESSOR__METRICS_PORT": "0"} if self.alive else {}
        process = tiny_processor.start(self._file, self._environment | port, self.working, log)
        self.alive.append(process)
        return process

    def logs(self) -> str:
        return "\n".join(path.read_text()[-4_000:] for path in sorted(self._folder.glob("worker*.log")))


def config_environment(config: Config) -> dict[str, str]:
    """The configuration as the environment that a service gets."""
    import os

    values = dict(os.environ) | {"OMP_NUM_THREADS": "1", "DRIFTLINE_BACKBONE_PATH": str(config.backbone_dir)}
    for section, content in config.model_dump(mode="json").items():
        if section in ("groups",):
            values[f"DRIFTLINE_{section.upper()}"] = json.dumps(content)
        elif isinstance(content, dict) and section in (
            "kafka", "topics", "live", "learner", "gate", "join", "processor", "domains"
        ):  # fmt: skip
            for key, value in content.items():
                if value is not None:
                    text = value if isinstance(value, str) else json.dumps(value)
                    values[f"DRIFTLINE_{section.upper()}__{key.upper()}"] = text
    return values


def kill(process: BaseProcess) -> None:
    """As a lost machine would."""
    process.kill()
    process.join()


def ended(process: BaseProcess, seconds: float) -> int | None:
    """The exit code of a process that is to end by itself."""
    process.join(seconds)
    return process.exitcode


def produce(config: Config, index: int, records: list[bytes]) -> None:
    """Writes the records of a group to its partition."""
    with make_producer(config.kafka) as producer:
        for value in records:
            producer.send(config.topics.traffic, value=value, partition=index)
        producer.flush()


def committed(config: Config) -> dict[bytes, bytes]:
    """The newest committed value of every key in the kernel log."""
    return {
        record.key or b"": record.value or b""
        for partition in range(len(GROUPS))
        for record in scan(config, config.topics.kernels, partition)
    }


def snapshots(config: Config) -> dict[str, GroupSnapshot]:
    """The snapshot that each group would start from, by group; none of one that has not committed."""
    values = committed(config)
    cuts = {
        name: choose(name, {slot: values.get(learner_key(name, slot)) for slot in SLOTS}, None).cut for name in GROUPS
    }
    return {
        name: decode_snapshot(cut.snapshot, group=name, fingerprint=BACKBONE.fingerprint)
        for name, cut in cuts.items()
        if cut is not None
    }


def wait_until(condition: Callable[[], bool], workers: Workers, seconds: float = 240) -> None:
    """Fails with the logs once no processor is left, or when the time is over: before the time of the whole test is."""
    end = time.monotonic() + seconds
    while not condition():
        assert any(process.is_alive() for process in workers.alive), f"every processor has ended\n{workers.logs()}"
        assert time.monotonic() < end, workers.logs()
        time.sleep(1.0)  # a look reads the whole log, with the processor on the same cores


def all_learned(config: Config) -> bool:
    """Whether every group has committed all of its records."""
    stored = snapshots(config)
    return all(name in stored and stored[name].next_offset == len(group_records(GROUPS.index(name))) for name in GROUPS)


@functools.cache
def reference(index: int) -> GroupSnapshot:
    """What the group's machine learns in process, undisturbed."""
    group = machine(GROUPS[index])
    for offset, value in enumerate(group_records(index)):
        group.feed(offset, value, appended(value))
    return group.snapshot()


def check_final(config: Config, workers: Workers) -> None:
    """Every group has learned what an undisturbed machine learns of the same records, and `main` has a kernel."""
    stored = snapshots(config)
    for index, name in enumerate(GROUPS):
        expected = reference(index)
        assert stored[name].examples == expected.examples, workers.logs()
        assert stored[name].version == expected.version
        assert stored[name].learner == expected.learner
    assert kernel_key("main") in committed(config)
