"""The processor on the real broker: killed, taken over, stopped, and always with the same kernel in the end."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import pytest

from features.live.first_rows import write_first_rows
from local.demo.settings import free_ports
from streaming.clients import make_admin, make_producer
from streaming.config import Config, GroupConfig, JoinConfig
from streaming.events import Progress
from streaming.kernel_log.cuts import choose
from streaming.kernel_log.keys import SLOTS, kernel_key, learner_key
from streaming.kernel_log.snapshot import GroupSnapshot, decode_snapshot
from streaming.topic_scan import scan
from streaming.topics import ensure_topics
from tests.streaming.processor import tiny_processor
from tests.streaming.processor.tiny import (
    BACKBONE,
    FIRST_ROWS,
    GATE,
    JOIN,
    LEARNER,
    LIVE,
    appended,
    encoded,
    machine,
    traffic,
)
from tests.streaming.processor.tiny_processor import STORE_AWAY

pytestmark = [pytest.mark.broker, pytest.mark.slow]
REQUESTS = 400
GROUPS = ("main", "other")


@functools.cache
def group_records(index: int) -> list[bytes]:
    """An ingest that is never behind: it has read all that the broker's clock, now, may mean."""
    records = traffic(REQUESTS, seed=index, prefix=f"{GROUPS[index]}.r")
    return encoded([Progress({0: 1e12}, 1) if isinstance(record, Progress) else record for record in records])


@pytest.fixture
def config(stream_config: Config, tmp_path: Path) -> Config:
    """Two kernel groups, learned as in the tiny machine, from the same first rows."""
    (port,) = free_ports(1)
    processor = stream_config.processor.model_copy(
        update={"commit_interval_s": 0.1, "snapshot_interval_s": 0.2, "session_timeout_s": 6.0, "metrics_port": port}
    )
    changed = stream_config.model_copy(
        update={
            "groups": tuple(GroupConfig(name=name) for name in GROUPS),
            "domains": stream_config.domains.model_copy(update={"period": ("day", "night")}),
            "live": LIVE,
            "backbone_path": tmp_path / "backbone",
            "learner": LEARNER,
            "gate": GATE,
            "join": JoinConfig(**JOIN.model_dump()),
            "processor": processor,
        }
    )
    changed.backbone_dir.mkdir()
    for name in GROUPS:
        write_first_rows(changed.backbone_dir, name, changed.domains_of(name), FIRST_ROWS)
    ensure_topics(changed)
    return changed


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


@pytest.fixture
def workers(config: Config, tmp_path: Path) -> Iterator[Workers]:
    """Starts processors; what is left of them at the end is killed."""
    started = Workers(config, tmp_path)
    yield started
    for process in started.alive:
        kill(process)


def kill(process: BaseProcess) -> None:
    """As a lost machine would."""
    process.kill()
    process.join()


def ended(process: BaseProcess, seconds: float) -> int | None:
    """The exit code of a process that is to end by itself."""
    process.join(seconds)
    return process.exitcode


def produce(config: Config, index: int, records: list[bytes]) -> None:
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
    stored = snapshots(config)
    for index, name in enumerate(GROUPS):
        expected = reference(index)
        assert stored[name].examples == expected.examples, workers.logs()
        assert stored[name].version == expected.version
        assert stored[name].learner == expected.learner
    assert kernel_key("main") in committed(config)


def test_kills_do_not_change_the_final_kernels(config: Config, workers: Workers) -> None:
    streams = [group_records(index) for index in range(len(GROUPS))]
    workers.start()
    step = len(streams[0]) // 3
    for part in range(4):
        for index, records in enumerate(streams):
            produce(config, index, records[part * step : (part + 1) * step if part < 3 else None])
        if part < 2:
            wait_until(lambda: len(snapshots(config)) == len(GROUPS), workers)
            kill(workers.alive[-1])
            workers.start()
    wait_until(lambda: all_learned(config), workers)
    check_final(config, workers)


def test_a_second_processor_takes_over_from_a_killed_one_and_loses_nothing(config: Config, workers: Workers) -> None:
    streams = [group_records(index) for index in range(len(GROUPS))]
    first = workers.start()
    for index, records in enumerate(streams):
        produce(config, index, records[: len(records) // 2])
    wait_until(lambda: len(snapshots(config)) == len(GROUPS), workers)
    workers.start()
    for index, records in enumerate(streams):
        produce(config, index, records[len(records) // 2 :])
    kill(first)
    wait_until(lambda: all_learned(config), workers)
    check_final(config, workers)


def test_a_stopped_processor_commits_its_state_leaves_no_files_and_exits_0(config: Config, workers: Workers) -> None:
    process = workers.start()
    for index in range(len(GROUPS)):
        produce(config, index, group_records(index))
    wait_until(lambda: all_learned(config), workers)
    process.terminate()
    assert ended(process, 30) == 0, workers.logs()
    check_final(config, workers)
    assert not list(workers.working.iterdir())
    assert not list(workers.scratch.iterdir())


def test_a_processor_is_healthy_only_once_the_store_has_the_first_rows_of_its_groups(
    config: Config, workers: Workers
) -> None:
    away = workers.working / STORE_AWAY
    away.touch()
    workers.start()

    def start() -> str:
        return health(config)["start"]

    wait_until(lambda: "live rows of main, other are not in the feature store yet" in start(), workers)
    away.unlink()
    wait_until(lambda: start() == "ok", workers)


def health(config: Config) -> dict[str, str]:
    """What the processor's `/healthz` says of each check; of "start" that nobody answers, while nobody does."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{config.processor.metrics_port}/healthz", trust_env=False)
    except httpx.TransportError:
        return {"start": "nobody answers"}
    checks: dict[str, str] = answer.json()["checks"]
    assert (answer.status_code == 200) == all(state == "ok" for state in checks.values())
    return checks


def overwrite(config: Config, topic: str, partition: int, key: bytes, value: bytes) -> None:
    """Writes to an internal topic, as another program could."""
    with make_producer(config.kafka) as producer:
        producer.send(topic, key=key, value=value, partition=partition).get(timeout=30)


def newest_slot(config: Config, group: str) -> int:
    values = committed(config)
    return 1 - choose(group, {slot: values.get(learner_key(group, slot)) for slot in SLOTS}, None).slot


def learned_up_to(config: Config, end: int) -> bool:
    return [one.next_offset for one in snapshots(config).values()] == [end] * len(GROUPS)


def both_slots(config: Config) -> bool:
    values = committed(config)
    return all(learner_key(name, slot) in values for name in GROUPS for slot in SLOTS)


def test_a_corrupt_snapshot_falls_back_to_the_previous_one_without_changing_the_final_kernels(
    config: Config, workers: Workers
) -> None:
    streams = [group_records(index) for index in range(len(GROUPS))]
    first = workers.start()
    for part in range(2):  # until both slots hold a snapshot
        for index, records in enumerate(streams):
            produce(config, index, records[part * 300 : (part + 1) * 300])
        wait_until(functools.partial(learned_up_to, config, (part + 1) * 300), workers)
    kill(first)
    assert both_slots(config), "or nothing is left to fall back to"
    for index, name in enumerate(GROUPS):
        overwrite(config, config.topics.kernels, index, learner_key(name, newest_slot(config, name)), b"garbage")
        overwrite(config, config.topics.state, index, b"garbage key", b"\x91" * 100_000)
        overwrite(config, config.topics.kernels, index, b"\xff\xfe", b"garbage")
    workers.start()
    for index, records in enumerate(streams):
        produce(config, index, records[600:])
    wait_until(lambda: all_learned(config), workers)
    check_final(config, workers)
    logs = workers.logs()
    assert "cannot be read: its 7 bytes do not have their checksum" in logs
    assert "fallen back to the snapshot before" in logs
    assert "the state record b'garbage key' cannot be read" in logs


def test_a_recreated_traffic_topic_is_reported_and_learned_from_with_the_earlier_state(
    config: Config, workers: Workers
) -> None:
    process = workers.start()
    for index in range(len(GROUPS)):
        produce(config, index, group_records(index))
    wait_until(lambda: all_learned(config), workers)
    known = snapshots(config)
    with make_admin(config.kafka) as admin:
        admin.delete_topics([config.topics.traffic])
        wait_until(lambda: config.topics.traffic not in admin.list_topics(), workers)
    ensure_topics(config)
    assert ended(process, 60) == 1, workers.logs()
    assert "was deleted and made anew" in workers.logs()
    later = [
        encoded(traffic(60, seed=5 + index, prefix=f"{name}.s", start=5_000.0)) for index, name in enumerate(GROUPS)
    ]
    workers.start()
    for index, records in enumerate(later):
        produce(config, index, records)
    ends = dict(zip(GROUPS, map(len, later), strict=True))
    wait_until(lambda: {name: one.next_offset for name, one in snapshots(config).items()} == ends, workers)
    assert "was deleted and made anew since the last cut" in workers.logs()
    for name, stored in snapshots(config).items():
        assert stored.examples > known[name].examples
        assert stored.version > known[name].version


def test_two_deployments_with_one_traffic_topic_stay_separate(config: Config, workers: Workers, tmp_path: Path) -> None:
    names = {"kernels": f"{config.topics.kernels}-b", "state": f"{config.topics.state}-b"}
    (port,) = free_ports(1)
    other = config.model_copy(
        update={
            "topics": config.topics.model_copy(update=names),
            "processor": config.processor.model_copy(update={"metrics_port": port}),
        }
    )
    ensure_topics(other)
    folder = tmp_path / "other"
    folder.mkdir()
    others = Workers(other, folder)
    try:
        workers.start()
        others.start()
        for index in range(len(GROUPS)):
            produce(config, index, group_records(index))
        wait_until(lambda: all_learned(config), workers)
        wait_until(lambda: all_learned(other), others)
        check_final(config, workers)
        check_final(other, others)
    finally:
        for process in others.alive:
            kill(process)
