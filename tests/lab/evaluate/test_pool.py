"""Tasks in worker processes: what fails is named, and nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from joblib import parallel_config

from lab.evaluate.plan import Plan, make_plan
from lab.evaluate.pool import EvaluationFailedError, OutFolderError, ensure_writable, run_tasks
from lab.streams.sources import Source


def echoes(plan: Plan, source: Source, seed: int, name: str) -> tuple[str, int, str, int]:
    return source.name, seed, name, os.getpid()


def fails(plan: Plan, source: Source, seed: int, name: str) -> None:
    if name == "full":
        raise FloatingPointError("its learning rate is too high")


def dies(plan: Plan, source: Source, seed: int) -> None:
    os._exit(9)


def tasks(plan: Plan) -> list[tuple[Source, int, str]]:
    return [(source, seed, name) for source in plan.sources for seed in plan.seeds for name in plan.adapters]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_failed_task_is_reported_by_name_and_finished_tasks_are_kept(tiny: Plan, processes: int) -> None:
    with (
        parallel_config("loky", n_jobs=processes),
        pytest.raises(EvaluationFailedError, match=r"^stream \S+, seed \d, full: its learning.* kept in") as raised,
    ):
        list(run_tasks(tiny, fails, tasks(tiny)))
    assert str(tiny.work_dir) in str(raised.value)
    assert "call again to go on" in str(raised.value)


@pytest.mark.slow
def test_a_dead_worker_ends_the_evaluation_with_an_error_message(tiny: Plan) -> None:
    with (
        parallel_config("loky", n_jobs=2),
        pytest.raises(EvaluationFailedError, match=r"(?s)a worker process ended: .*finished runs are kept in"),
    ):
        list(run_tasks(tiny, dies, [(source, 0) for source in tiny.sources]))


@pytest.mark.slow
def test_every_task_runs_once_in_another_process_although_a_worker_died_before(tiny: Plan) -> None:
    with parallel_config("loky", n_jobs=2):
        results = list(run_tasks(tiny, echoes, tasks(tiny)))
    assert sorted(result[:3] for result in results) == sorted((s.name, seed, name) for s, seed, name in tasks(tiny))
    assert os.getpid() not in {result[3] for result in results}


KILLED = """
import os, time
from joblib import Parallel, delayed
from lab.evaluate.pool import workers
if __name__ == "__main__":
    with workers(2, None):
        for pid in Parallel(return_as="generator")(delayed(os.getpid)() for _ in range(8)):
            print(pid, flush=True)
        time.sleep(600)
"""


@pytest.mark.slow
def test_workers_end_although_their_starter_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        workers = [psutil.Process(int(starter.stdout.readline())) for _ in range(8)]
        starter.kill()
        starter.stdout.close()
    assert not psutil.wait_procs(set(workers), timeout=60)[1]


def test_a_worker_in_another_directory_finds_a_log_with_a_relative_path() -> None:
    source = Source("shop", log=Path("log.csv"), mapping=Path("mapping.yaml"))
    plan = make_plan([source], ("frozen",), 1, Path("out"), Path("cache"), quick=True)
    assert plan.sources[0].log == Path.cwd() / "log.csv"
    assert plan.sources[0].mapping == Path.cwd() / "mapping.yaml"
    assert plan.work_dir.is_absolute() and plan.cache_dir.is_absolute()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_report_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutFolderError, match=r"--out .*file.*name a folder that can be written"):
        ensure_writable(tmp_path / name)


def test_a_new_report_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "new" / "report")
    assert not list((tmp_path / "new" / "report").iterdir())
