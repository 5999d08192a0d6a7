"""`run_evaluate` through real worker processes, on a log with a mapping file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lab.evaluate.command import run_evaluate
from lab.evaluate.pool import EvaluationFailedError
from model.config import BackboneConfig, KernelConfig, LearnerConfig
from streaming.config import Config

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
        kernel=KernelConfig(latent=4, hidden=8),
        learner=LearnerConfig(batch_examples=64, rehearsal_steps=1),
    )


@pytest.mark.e2e
@pytest.mark.slow
def test_a_log_is_evaluated_in_worker_processes_and_a_second_call_only_reads(tmp_path: Path) -> None:
    write_log(tmp_path)
    arguments = {
        "mapping": str(tmp_path / "mapping.yaml"), "adapters": ("iak-d", "full"), "seeds": 2,
        "out": tmp_path / "out", "processes": 2,
    }  # fmt: skip
    console = Console(record=True, width=200)
    report = run_evaluate(config_of(tmp_path), console=console, **arguments)  # type: ignore[arg-type]
    assert [stream.name for stream in report.streams] == ["mapping"]
    assert [row.adapter for row in report.streams[0].rows] == ["frozen", "iak-d", "full"]
    assert "All streams" in console.export_text()
    results = sorted((tmp_path / "out" / "work").rglob("*.npz"))
    assert len(results) == 2 * 4
    stamps = [path.stat().st_mtime_ns for path in results]
    again = run_evaluate(config_of(tmp_path), console=console, **arguments)  # type: ignore[arg-type]
    assert [path.stat().st_mtime_ns for path in results] == stamps
    assert again.to_json()["streams"] == report.to_json()["streams"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["plan"]["seeds"] == [0, 1]


@pytest.mark.e2e
@pytest.mark.slow
def test_a_run_that_fails_names_its_stream_and_seed(tmp_path: Path) -> None:
    write_log(tmp_path)
    wild = config_of(tmp_path).model_copy(update={"learner": LearnerConfig(batch_examples=10_000_000)})
    (tmp_path / "cache").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "work").write_text("a file where a folder must be")
    with pytest.raises(EvaluationFailedError, match=r"stream mapping, seed 0: .*; finished runs are kept in"):
        run_evaluate(
            wild, mapping=str(tmp_path / "mapping.yaml"), adapters=("frozen",), seeds=1,
            out=tmp_path / "out", processes=1, console=Console(quiet=True),
        )  # fmt: skip
