"""The report of any measures: degenerate streams leave cells blank, and a failing picture does not affect the rest."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import lab.evaluate.plots as plots_module
from lab.evaluate.bootstrap import draw_users, drawn_figures
from lab.evaluate.command import write
from lab.evaluate.measures import measure
from lab.evaluate.plan import ALL_ADAPTERS, Plan
from lab.evaluate.plots import pictures
from lab.evaluate.prepare import PreparedStream
from lab.evaluate.report import EvaluationReport, make_report
from lab.evaluate.seed_results import RunCost, SeedResult
from lab.evaluate.slices import PretrainingCounts, measure_slices
from lab.evaluate.tables import markdown, show, tables
from lab.streams import ScriptedStream, standard_suite
from lab.streams.sources import Source

pytestmark = pytest.mark.slow

NAN = float("nan")
Changed = Callable[[PreparedStream], PreparedStream]


def part(rows: slice) -> Changed:
    def cut(data: PreparedStream) -> PreparedStream:
        columns: dict[str, Any] = {name: column[rows] for name, column in data.arrays().items()}
        return replace(data, **columns)

    return cut


def labelled(value: float) -> Changed:
    return lambda data: replace(data, truth=np.full_like(data.truth, value))


def constant(name: str) -> Changed:
    return lambda data: replace(data, **{name: np.full_like(getattr(data, name), getattr(data, name)[0])})


ODD: dict[str, Changed] = {
    "without clicks": labelled(0.0),
    "with clicks only": labelled(1.0),
    "of one user": constant("user"),
    "of one moment": constant("time"),
    "of one example": part(slice(0, 1)),
    "of fewer examples than windows": part(slice(0, 7)),
    "without known probabilities": lambda data: replace(data, probability=np.full_like(data.probability, np.nan)),
}


def report_of(
    plan: Plan, stream: ScriptedStream, data: PreparedStream, *, cpu_s: float = 1.0, log: bool = False
) -> EvaluationReport:
    """The report of made-up logits on `data`, for every stream and seed of the plan; as of a `log` if asked for."""
    results = {}
    users = draw_users(data.user, 20)
    for source in plan.sources:
        for seed in plan.seeds:
            noise = np.random.default_rng(seed).normal(size=(len(plan.adapters), len(data))).astype(np.float32)
            measures = {
                name: measure(data, data.frozen_logit + noise[number], stream.drift_spans, stream.catalogue.space)
                for number, name in enumerate(plan.adapters)
            }
            seen = PretrainingCounts(np.arange(len(data)) % 200, np.arange(len(data)) % 2)
            slices = {name: measure_slices(data.truth, data.frozen_logit, data.request, seen) for name in plan.adapters}
            costs = {name: RunCost(len(data), 10, cpu_s, 0, 0) for name in plan.adapters}
            results[source.name, seed] = SeedResult(
                stream=source.name, seed=seed, measures=measures, costs=costs, slices=slices, examples=len(data),
                lists=30, click_rate=float(data.truth.mean()), oracle_auc=0.9, oracle_request_auc=0.8,
                spans=(("taste", 0.3, 0.7),),
                drawn={
                    name: drawn_figures(data, data.frozen_logit + noise[number], users)
                    for number, name in enumerate(plan.adapters)
                } if log else {},
            )  # fmt: skip
    return make_report(plan, results)


@pytest.mark.parametrize("odd", ODD)
def test_a_report_of_any_tested_half_has_blank_cells_for_missing_figures(
    odd: str, tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    stream, data = prepared
    report = report_of(tiny, stream, ODD[odd](data), log=True)
    write(report, tmp_path)
    show(report, Console(quiet=True))
    for title, head, body in tables(report):
        cells = [cell for row in body for cell in row]
        assert not [cell for cell in cells if "nan" in cell or "inf" in cell.split()], title
        assert all(len(row) == len(head) for row in body)
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert not caplog.records, "a picture was left out"
    json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_without_clicks_the_columns_that_need_them_are_blank_and_log_loss_is_not(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    stream, data = prepared
    report = report_of(tiny, stream, labelled(0.0)(data))
    _, head, body = next(table for table in tables(report) if table[0].startswith("drift ("))
    row = dict(zip(head, body[0], strict=True))
    assert row["AUC"] == row["above frozen"] == row["calibration"] == row["NE"] == ""
    assert float(row["log loss"]) > 0


def test_runs_of_zero_seconds_are_reported(tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    report = report_of(tiny, *prepared, cpu_s=0.0)
    assert "0.0" in markdown(report)
    assert len(pictures(report)) == 4


def test_a_failing_picture_is_left_out_and_the_report_is_complete(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fails(*_: object, **__: object) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr(plots_module, "_curves", fails)
    with caplog.at_level(logging.WARNING):
        write(report_of(tiny, *prepared), tmp_path)
    assert "drift.png cannot be drawn" in caplog.text
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["gain-and-cost.png", "gains.png"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "<h2>Figures</h2>" in page


def test_a_stream_may_have_any_name_that_a_file_has(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    named = replace(tiny, sources=(replace(tiny.sources[0], name="a$b^$|_{<i>"),))
    report = report_of(named, *prepared)
    assert "a$b^$|_{<i>.png" in pictures(report)
    lines = [line for line in markdown(report).splitlines() if line.startswith("|")]
    assert lines[0].replace(r"\|", "").count("|") == lines[1].count("|")


def test_ablations_are_compared_with_the_kernel_paired_by_seed(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    ablations = [name for name, spec in ALL_ADAPTERS.items() if spec.part][-2:]
    report = report_of(replace(tiny, adapters=("frozen", *ablations, "iak")), *prepared)
    _, head, body = next(table for table in tables(report) if table[0].startswith("Parts of iak"))
    assert [row[1] for row in body] == [ALL_ADAPTERS[name].about for name in ("iak", *ablations)]
    assert head[2:4] == ["above frozen in requests", "above iak in requests"]
    for within in ("", " in requests"):
        lead = [float(row[head.index(f"above frozen{within}")].split()[0]) for row in body]
        for row, own in zip(body[1:], lead[1:], strict=True):
            difference = float(row[head.index(f"above iak{within}")].split()[0])
            assert difference == pytest.approx(own - lead[0], abs=2e-4)
    _, head, body = next(table for table in tables(report) if "within requests above iak, by stream" in table[0])
    assert head == ["adapter", "drift", "no-drift"]
    of_stream = {row.adapter: row.request_auc.mean for row in report.streams[0].rows}
    assert float(body[0][1].split()[0]) == pytest.approx(of_stream[ablations[0]] - of_stream["iak"], abs=1e-4)


def test_only_scripts_of_the_standard_suite_count_as_such(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    report = report_of(tiny, *prepared)
    assert [one.altered for one in report.streams] == [False, True], "no-drift is short here, drift is not of the suite"
    assert math.isnan(report.script_leads["iak"].mean)
    name = "no-drift"
    standard = replace(tiny, sources=(Source(name, script=standard_suite()[name]), tiny.sources[0]))
    report = report_of(standard, *prepared)
    assert not any(one.altered for one in report.streams)
    row = next(row for row in report.streams[0].rows if row.adapter == "iak")
    assert report.script_request_leads["iak"] == row.request_auc_lead
    for title, head, body in tables(report)[:2]:
        cells = dict(zip(head, next(cells for cells in body if cells[0] == "iak"), strict=True))
        lead = row.request_auc_lead if "within requests" in title else row.lead
        assert cells["mean of scripts"] == str(lead)
        assert len(body[-1]) == len(head)


def test_a_report_without_ablations_has_no_table_of_parts(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    assert not [title for title, *_ in tables(report_of(tiny, *prepared)) if title.startswith("Parts")]


def test_the_first_table_shows_request_auc_with_the_oracle_last(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    report = report_of(tiny, *prepared)
    title, head, body = tables(report)[0]
    assert title == "All streams: AUC within requests above frozen"
    assert head == ["adapter", "drift", "no-drift", "mean"]
    full = next(row for row in report.streams[0].rows if row.adapter == "full")
    assert next(row for row in body if row[0] == "full")[1] == f"{full.request_auc_lead.mean:+.4f}"
    frozen = report.streams[0].rows[0]
    assert body[-1][:2] == ["oracle", f"{0.8 - frozen.request_auc.mean:+.4f}"]
    _, head, body = next(table for table in tables(report) if table[0].startswith("drift ("))
    assert head[1:5] == ["AUC in requests", "above frozen in requests", "NDCG@5", "NDCG@10"]
    assert dict(zip(head, body[-1], strict=True))["AUC"] == "0.9000"


def test_a_log_has_no_row_of_an_oracle(tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    report = report_of(tiny, *prepared)
    log = replace(report, streams=tuple(replace(s, oracle_auc=NAN, oracle_request_auc=NAN) for s in report.streams))
    assert not [row for _, _, body in tables(log) for row in body if row[0] == "oracle"]


def test_only_logs_have_bootstrap_intervals_over_users_for_differences_from_the_kernel(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    title = "drift: above iak, intervals over the log's users"
    assert title not in markdown(report_of(tiny, *prepared))
    report = report_of(tiny, *prepared, log=True)
    _, head, body = next(table for table in tables(report) if table[0] == title)
    assert head == ["adapter", "AUC in requests", "AUC", "log loss"]
    assert "iak" not in [row[0] for row in body]
    frozen, iak = (next(r for r in report.streams[0].rows if r.adapter == name) for name in ("frozen", "iak"))
    apart = frozen.users_against_kernel["auc"]
    assert apart.mean == pytest.approx(frozen.auc.mean - iak.auc.mean)
    assert 0 < apart.half_width < 0.1


def test_a_row_of_the_file_has_the_figures_of_a_ranker_with_their_leads(
    tiny: Plan, prepared: tuple[ScriptedStream, PreparedStream]
) -> None:
    values = report_of(tiny, *prepared).to_json()
    for stream in values["streams"]:
        assert stream["lists"] == 30
        for row in stream["rows"]:
            for key in ("request_auc", "ndcg_5", "ndcg_10", "auc"):
                lead = row["lead" if key == "auc" else f"{key}_lead"]
                assert set(row[key]) == set(lead) == {"mean", "half_width"}
                assert lead["mean"] == pytest.approx(row[key]["mean"] - stream["rows"][0][key]["mean"])
