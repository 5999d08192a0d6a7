"""The evaluation from plan to page on small streams."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lab.evaluate.plan import Plan, deciding_files, make_plan
from lab.evaluate.report import make_report, measure_seed
from lab.evaluate.work import ensure_lab, load_run, run_stream


def test_a_plan_runs_from_backbones_to_the_page_and_goes_on_where_it_stopped(tiny: Plan, tmp_path: Path) -> None:
    from lab.evaluate.command import write
    from lab.evaluate.tables import show

    told: list[tuple[str, str, int]] = []
    for source in tiny.sources:
        for seed in tiny.seeds:
            ensure_lab(tiny, source, seed)
            run_stream(tiny, source, seed, lambda *run: told.append(run))
    assert len(told) == 2 * 2 * 4
    backbones = list((tiny.work_dir / tiny.key / "backbones").iterdir())
    assert len(backbones) == 2, "streams with the same first half share a backbone"
    first = load_run(tiny, tiny.sources[0], 0, "full")
    path = tiny.folder(tiny.sources[0], 0) / "full.npz"
    stamp = path.stat().st_mtime_ns
    (tiny.folder(tiny.sources[0], 0) / "iak-d.npz").unlink()
    run_stream(tiny, tiny.sources[0], 0, lambda *run: None)
    assert path.stat().st_mtime_ns == stamp, "a finished run was made again"
    assert first.parameters > 5 * load_run(tiny, tiny.sources[0], 0, "iak-d").parameters > 0

    results = {(one.name, seed): measure_seed(tiny, one, seed) for one in tiny.sources for seed in tiny.seeds}
    report = make_report(tiny, results)
    write(report, tmp_path / "out")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [stream["name"] for stream in data["streams"]] == ["drift", "no-drift"]
    rows = {row["adapter"]: row for row in data["streams"][0]["rows"]}
    assert rows["frozen"]["lead"]["mean"] == 0
    assert data["streams"][0]["oracle_auc"] > rows["full"]["auc"]["mean"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.replace("https://", "http").split("<style>")[0]
    assert "| full |" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "drift.png").read_bytes().startswith(b"\x89PNG")
    console = Console(record=True, width=250)
    show(report, console)
    assert "best possible AUC" in console.export_text()
    narrow = Console(record=True, width=40)
    show(report, narrow)
    assert "…" not in narrow.export_text()


def test_other_settings_or_code_never_reuse_work(tiny: Plan) -> None:
    other = replace(tiny, learner=tiny.learner.model_copy(update={"rehearsal_steps": 2}))
    assert len({tiny.key, other.key, replace(tiny, code="changed").key}) == 3


def test_an_unknown_adapter_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapter 'magic'; there are frozen"):
        make_plan([], ("magic",), 1, tmp_path, tmp_path, quick=False)


def test_work_is_keyed_by_all_code_that_decides_it_and_by_none_that_only_reads_it() -> None:
    root = Path(__file__).parents[3]
    keyed = {str(path.relative_to(root)) for path in deciding_files()}
    assert keyed >= {"lab/adapters/__init__.py", "lab/streams/logged/tables.py", "lab/evaluate/prequential.py"}
    assert not keyed & {"lab/evaluate/tables.py", "lab/evaluate/goals.py"}
