"""The processor on the real broker: killed, taken over, stopped, and always with the same kernel in the end."""

from __future__ import annotations

import httpx
import pytest

from streaming.config import Config
from tests.streaming.processor.running_processor import (
    GROUPS,
    Workers,
    all_learned,
    check_final,
    ended,
    group_records,
    kill,
    produce,
    snapshots,
    wait_until,
)
from tests.streaming.processor.tiny_processor import STORE_AWAY

pytestmark = [pytest.mark.broker, pytest.mark.slow]


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
