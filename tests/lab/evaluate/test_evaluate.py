"""The evaluation from plan to page on small streams."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lab.evaluate.plan import ALL_ADAPTERS, Plan, make_plan
from lab.evaluate.report import make_report
from lab.evaluate.seed_results import measure_seed
from lab.evaluate.work import close_stream, load_run, prepare_stream, run_adapter
from model.config import PretrainConfig


def run_all(plan: Plan) -> None:
    for source in plan.sources:
        for seed in plan.seeds:
            prepare_stream(plan, source, seed)
            for name in plan.adapters:
                assert run_adapter(plan, source, seed, name) == (source.name, seed, name)
    close_stream()


@pytest.mark.slow
def test_a_plan_runs_from_backbones_to_the_page_and_resumes_where_it_stopped(tiny: Plan, tmp_path: Path) -> None:
    from lab.evaluate.command import write
    from lab.evaluate.tables import show

    run_all(tiny)
    backbones = list((tiny.work_dir / tiny.key / "backbones").iterdir())
    assert len(backbones) == 2, "streams with the same first half share a backbone"
    first = load_run(tiny, tiny.sources[0], 0, "full")
    path = tiny.folder(tiny.sources[0], 0) / "full.npz"
    stamp = path.stat().st_mtime_ns
    (tiny.folder(tiny.sources[0], 0) / "iak.npz").unlink()
    run_all(tiny)
    assert path.stat().st_mtime_ns == stamp, "a finished run was made again"
    assert first.parameters > 5 * load_run(tiny, tiny.sources[0], 0, "iak").parameters > 0

    results = {(one.name, seed): measure_seed(tiny, one, seed) for one in tiny.sources for seed in tiny.seeds}
    report = make_report(tiny, results)
    write(report, tmp_path / "out")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [stream["name"] for stream in data["streams"]] == ["drift", "no-drift"]
    rows = {row["adapter"]: row for row in data["streams"][0]["rows"]}
    assert rows["frozen"]["lead"]["mean"] == 0
    sizes = {name: row["examples"] for name, row in rows["iak"]["slices"].items()}
    assert sizes["user new"] + sizes["user known"] == pytest.approx(data["streams"][0]["examples"], rel=0.1)
    assert data["streams"][0]["oracle_auc"] > rows["full"]["auc"]["mean"]
    page = (tmp_path / "out" / "report.html").read_text()
    drawn = {path.name for path in (tmp_path / "out").glob("*.png")}
    information = {"information-plane.png", "information-drift.png", "information-no-drift.png"}
    assert drawn == {"gains.png", "gain-and-cost.png", "drift.png", "no-drift.png", *information}
    assert page.count("data:image/png;base64,") == len(drawn)
    assert "http" not in page.replace("https://", "http").split("<style>")[0]
    assert "by what pretraining saw of item and user" in page
    assert "| full |" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "drift.png").read_bytes().startswith(b"\x89PNG")
    console = Console(record=True, width=250)
    show(report, console)
    assert "best possible AUC" in console.export_text()
    narrow = Console(record=True, width=40)
    show(report, narrow)
    assert "…" not in narrow.export_text()


def test_other_settings_or_code_never_reuse_work(tiny: Plan) -> None:
    settings = replace(tiny, learner=tiny.learner.model_copy(update={"trust_rate": 0.5}))
    training = replace(tiny, config=replace(tiny.config, training=replace(tiny.config.training, rehearsal_steps=3)))
    assert len({tiny.key, settings.key, training.key, replace(tiny, code="changed").key}) == 4


def test_an_unknown_adapter_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapter 'magic'; there are frozen"):
        make_plan([], ("magic",), 1, tmp_path, tmp_path, quick=False)


@pytest.mark.slow
def test_a_truncated_result_is_computed_again(tiny: Plan) -> None:
    plan = replace(tiny, sources=tiny.sources[:1], seeds=(0,), adapters=("frozen", "live-head"))
    run_all(plan)
    before = load_run(plan, plan.sources[0], 0, "live-head").outcome.logit
    for torn in (b"", b"PK\x03\x04 torn", None):
        for name in ("live-head", "stream"):
            path = plan.folder(plan.sources[0], 0) / f"{name}.npz"
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if torn is None else torn)
        with pytest.raises(FileNotFoundError, match=r"live-head\.npz is missing or damaged"):
            load_run(plan, plan.sources[0], 0, "live-head")
        run_all(plan)
        assert (load_run(plan, plan.sources[0], 0, "live-head").outcome.logit == before).all()


@pytest.mark.slow
def test_an_adapter_gives_the_same_result_whatever_ran_before_in_the_process(tiny: Plan) -> None:
    plan = replace(tiny, sources=tiny.sources[:1], seeds=(0,), adapters=("frozen", "full", "live-head", "iak"))
    run_all(plan)
    first = {name: load_run(plan, plan.sources[0], 0, name).outcome.logit for name in plan.adapters}
    for name in plan.adapters:
        (plan.folder(plan.sources[0], 0) / f"{name}.npz").unlink()
    run_all(replace(plan, adapters=tuple(reversed(plan.adapters))))
    for name, logit in first.items():
        assert (load_run(plan, plan.sources[0], 0, name).outcome.logit == logit).all()


def test_a_quick_evaluation_pretrains_for_six_passes_at_most(tmp_path: Path) -> None:
    def epochs(configured: int, *, quick: bool) -> int:
        pretrain = PretrainConfig(epochs=configured)
        return make_plan([], ("frozen",), 1, tmp_path, tmp_path, quick=quick, pretrain=pretrain).config.pretrain.epochs

    assert [epochs(20, quick=True), epochs(6, quick=True), epochs(1, quick=True), epochs(20, quick=False)] == [
        6,
        6,
        1,
        20,
    ]


def test_the_name_of_an_adapter_set_selects_its_adapters_and_always_the_frozen_model(tmp_path: Path) -> None:
    def adapters(*names: str) -> tuple[str, ...]:
        return make_plan([], names, 1, tmp_path, tmp_path, quick=False).adapters

    ablations = adapters("ablations")
    assert ablations[:2] == ("frozen", "iak")
    assert "iak-no-trust" in ablations
    assert not set(ablations) & {"full", "lora", "full-trust", "iak-paper-a"}
    assert adapters("full", "ablations") == ("frozen", "full", *ablations[1:])
    assert set(adapters("all")) == set(ALL_ADAPTERS)
