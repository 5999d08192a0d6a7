"""`run_evaluate` through real worker processes, on a log with a mapping file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console

from lab.evaluate.command import run_evaluate
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.pool import ClusterUnavailableError, EvaluationFailedError
from lab.streams.sources import NamedStreams
from model.config import BackboneConfig, KernelConfig, LearnerConfig
from streaming.config import Config

# Commands with worker processes of their own, some run twice: on a busy machine that takes minutes.
pytestmark = pytest.mark.timeout(900)

SMALL = BackboneConfig(
    width=16, id_width=8, sparse_width=4, content_width=4, domain_width=4,
    experts=2, expert_hidden=16, expert_width=8, tower_hidden=8,
)  # fmt: skip


def write_log(folder: Path, rows: int = 2_400) -> None:
    rng = np.random.default_rng(1)
    user, item = rng.integers(30, size=rows), rng.integers(50, size=rows)
    click = rng.random(rows) < np.where((user + item + np.arange(rows) // 1_500) % 3 == 0, 0.7, 0.2)
    lines = [f"u{u},i{i},{1000 + 10 * n},{int(c)}" for n, (u, i, c) in enumerate(zip(user, item, click, strict=True))]
    (folder / "log.csv").write_text("user,item,time,click\n" + "\n".join(lines))
    (folder / "mapping.yaml").write_text(
        "name: shop\ninteractions: {path: log.csv, user: user, item: item, time: time, label: click}\n"
    )


def config_of(tmp_path: Path) -> Config:
    return Config(
        cache_dir=tmp_path / "cache",
        backbone=SMALL,
        kernel=KernelConfig(rank=4),
        learner=LearnerConfig(batch_examples=64),
    )


def order_of(folder: Path, out: str = "out", *, seeds: int = 1, processes: int = 1) -> ComparisonOptions:
    """The log in `folder`, whose report goes to `out` in it."""
    log = NamedStreams(mapping=str(folder / "mapping.yaml"))
    return ComparisonOptions(folder / out, log, seeds=seeds, processes=processes)


@pytest.mark.e2e
@pytest.mark.slow
def test_a_log_is_evaluated_in_worker_processes_and_a_second_call_only_reads(tmp_path: Path) -> None:
    write_log(tmp_path)
    order, adapters = order_of(tmp_path, seeds=2, processes=2), ("iak", "full")
    console = Console(record=True, width=200)
    report = run_evaluate(config_of(tmp_path), order, adapters=adapters, console=console)
    assert [stream.name for stream in report.streams] == ["mapping"]
    assert [row.adapter for row in report.streams[0].rows] == ["frozen", "iak", "full"]
    assert "All streams" in console.export_text()
    results = sorted((tmp_path / "out" / "work").rglob("*.npz"))
    assert len(results) == 2 * 4
    stamps = [path.stat().st_mtime_ns for path in results]
    again = run_evaluate(config_of(tmp_path), order, adapters=adapters, console=console)
    assert [path.stat().st_mtime_ns for path in results] == stamps
    assert again.to_json()["streams"] == report.to_json()["streams"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["plan"]["seeds"] == [0, 1]


@pytest.mark.e2e
@pytest.mark.slow
def test_a_failed_run_reports_its_stream_and_seed(tmp_path: Path) -> None:
    write_log(tmp_path)
    wild = config_of(tmp_path).model_copy(update={"learner": LearnerConfig(batch_examples=10_000_000)})
    (tmp_path / "cache").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "work").write_text("a file where a folder must be")
    with pytest.raises(EvaluationFailedError, match=r"stream mapping, seed 0: .*; finished runs are kept in"):
        run_evaluate(wild, order_of(tmp_path), adapters=("frozen",), console=Console(quiet=True))


def started(tmp_path: Path) -> subprocess.Popen[bytes]:
    """`driftline evaluate` on the log, in a process of its own."""
    command = "import sys; from driftline.cli import main; main(sys.argv[1:])"
    arguments = ["evaluate", "--mapping", str(tmp_path / "mapping.yaml"), "--adapters", "iak,full", "--seeds", "2"]
    environment = {**os.environ, "DRIFTLINE_CACHE_DIR": str(tmp_path / "cache"), "DRIFTLINE_RUN_DIR": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, "-c", command, *arguments, "--out", str(tmp_path / "out")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finished_runs(tmp_path: Path) -> dict[Path, int]:
    """Results with the times at which they were written."""
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "work").rglob("seed-*/[a-z]*.npz")}


@pytest.mark.e2e
@pytest.mark.slow
def test_an_interrupt_ends_all_processes_and_keeps_finished_runs(tmp_path: Path) -> None:
    write_log(tmp_path)
    process = started(tmp_path)
    while len(finished_runs(tmp_path)) < 3:
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode not in {0, None}, output
    assert "Traceback" not in output
    assert not psutil.wait_procs(workers, timeout=60)[1], "workers outlived the command"
    kept = finished_runs(tmp_path)
    again = started(tmp_path)
    output = again.communicate(timeout=240)[0].decode()
    assert again.returncode == 0, output
    assert "leaked" not in output
    assert {path: finished_runs(tmp_path)[path] for path in kept} == kept, "a finished run was made again"


@pytest.mark.e2e
@pytest.mark.slow
def test_dask_workers_give_the_same_results_as_local_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    write_log(tmp_path)
    monkeypatch.chdir(tmp_path)
    order, config, quiet = order_of(Path(), "here", seeds=2), config_of(tmp_path), Console(quiet=True)
    here = run_evaluate(config, order, adapters=("iak",), console=quiet)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        order = order_of(Path(), "there", seeds=2)
        there = run_evaluate(config, order, adapters=("iak",), cluster=address, console=quiet)
    assert there.to_json()["streams"] == here.to_json()["streams"]
    assert len(list((tmp_path / "there" / "work").rglob("iak.npz"))) == 2


@pytest.mark.e2e
def test_an_unreachable_cluster_is_reported_with_its_address_and_a_remedy(tmp_path: Path) -> None:
    dask = pytest.importorskip("dask")
    write_log(tmp_path)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ClusterUnavailableError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9: .*dask worker"),
    ):
        run_evaluate(
            config_of(tmp_path), order_of(tmp_path), adapters=("frozen",), cluster="tcp://127.0.0.1:9",
            console=Console(quiet=True),
        )  # fmt: skip
