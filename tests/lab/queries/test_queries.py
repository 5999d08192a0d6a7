"""Queries compared: kinds of requests apart, variants paired by seed, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import lab.evaluate.work as work_module
import lab.streams.sources as sources_module
from driftline.cli import app
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import KERNEL, make_plan
from lab.evaluate.slices import REQUEST_SLICES, PretrainingCounts, SliceMeasures
from lab.queries.command import run_queries
from lab.queries.table import markdown, report_of, sentences
from lab.queries.trial import ALL, FROZEN, NONE, ORACLE, SLICES, QueryTrial, run_query_trial
from lab.streams import RealItems, StreamError
from lab.streams.sources import NamedStreams, Source
from model.backbone.schema import BackboneRefused
from model.config import NO_QUERY, BackboneConfig
from streaming.config import Config
from tests.lab.evaluate.small import CONFIG, texts, write_small_log
from tests.lab.evaluate.small import KERNEL as SMALL_KERNEL
from tests.lab.streams.worlds import REAL, script

QUIET = Console(quiet=True)
SEARCH, RECOMMENDATION = REQUEST_SLICES


def measures(value: float) -> SliceMeasures:
    return SliceMeasures(1_000, 90, value, value, 1 - value)


def trial(by: str, seed: int, search: float = 0.0, recommendation: float = 0.0) -> QueryTrial:
    """A frozen model has 0.6 and a little more with each seed, a kernel 0.02 more."""
    base = 0.6 + 0.05 * seed
    arms = {
        arm: {
            ALL: measures(base + more),
            SEARCH: measures(base + search + more),
            RECOMMENDATION: measures(base + recommendation + more),
        }
        for arm, more in ((FROZEN, 0.0), (KERNEL, 0.02), (ORACLE, 0.2))
    }
    return QueryTrial("search", seed, by, arms)


def test_kinds_of_requests_are_slices_that_hold_every_example_once() -> None:
    ones = np.ones(4, dtype=np.int64)
    masks = PretrainingCounts(ones, ones, np.array([NO_QUERY, 0, 3, NO_QUERY])).masks()
    assert masks[SEARCH].tolist() == [False, True, True, False]
    assert (masks[SEARCH] ^ masks[RECOMMENDATION]).all()
    assert not set(REQUEST_SLICES) & set(PretrainingCounts(ones, ones).masks()), (
        "a stream without queries has no such slices"
    )


def test_variants_are_compared_with_no_query_paired_by_seed_and_the_oracle_has_one_row() -> None:
    trials = [trial(NONE, seed) for seed in range(3)]
    trials += [trial("both", seed, search=0.1 + 0.001 * seed, recommendation=-0.01) for seed in range(3)]
    report = report_of(trials, "domain")
    rows = {(row.by, row.arm): row for row in report.rows}
    assert [key for key in rows if key[1] == ORACLE] == [(NONE, ORACLE)]
    above = rows["both", FROZEN].above_none["request_auc"]
    assert above[SEARCH].mean == pytest.approx(0.101)
    assert above[SEARCH].half_width < 0.01, "the seeds' own level is no spread of a difference"
    assert above[RECOMMENDATION].mean == pytest.approx(-0.01)
    assert rows["both", KERNEL].above_none["log_loss"][SEARCH].mean == pytest.approx(-0.101)
    lines = list(sentences(report))
    assert "(better) within search requests" in lines[0] and "(worse) within recommendations" in lines[0]
    assert "| both | frozen |" in markdown(report)


def test_one_seed_gives_no_interval() -> None:
    lines = list(sentences(report_of([trial(NONE, 0), trial("text", 0, search=0.1)], "domain")))
    assert all("one seed tells no interval" in sentence for sentence in lines)


@pytest.mark.slow
def test_a_trial_runs_both_arms_and_is_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources_module, "fetch", lambda cache, *_, **__: cache)
    monkeypatch.setattr(sources_module, "load", lambda path: path)
    monkeypatch.setattr(RealItems, "of", staticmethod(lambda data, config: REAL))
    monkeypatch.setattr(work_module, "text_vectors", lambda plan, values: texts(values))
    searching = script("[]", requests=300, pretrain_requests=300, users=40, queries="{share: 0.5, match: 4.0}")
    source = Source("search", script=searching)
    plan = make_plan([source], (KERNEL,), 1, tmp_path, tmp_path, quick=False, kernel=SMALL_KERNEL)
    plan = replace(plan, config=CONFIG)
    none, both = (run_query_trial(plan, source, 0, by) for by in (NONE, "both"))
    for made in (none, both):
        assert set(made.arms) == {FROZEN, KERNEL, ORACLE}
        whole, search, recommendation = (made.arms[FROZEN][name].examples for name in SLICES)
        assert whole == search + recommendation and min(search, recommendation) > 1_000
    assert none.arms[ORACLE] == both.arms[ORACLE]
    assert none.arms[FROZEN][SEARCH] != both.arms[FROZEN][SEARCH]
    assert run_query_trial(plan, source, 0, "both") == both
    assert json.loads(next(tmp_path.glob("work/**/queries-*.json")).read_text())["by"] in {NONE, "both"}
    assert both.arms[ORACLE][ALL].request_auc > both.arms[FROZEN][ALL].request_auc


def test_a_log_without_queries_is_refused_by_the_key(tmp_path: Path, cache_dir: Path) -> None:
    log, mapping = write_small_log(tmp_path)
    with pytest.raises(StreamError, match=r"backbone\.query_aspects .* stream shop carries a query"):
        order = ComparisonOptions(tmp_path / "out", NamedStreams(log=log, mapping=str(mapping)))
        run_queries(Config(cache_dir=cache_dir), order, console=QUIET)


def test_a_custom_backbone_is_refused_by_its_key(tmp_path: Path) -> None:
    config = Config(backbone=BackboneConfig(factory="mine.py:model"))
    with pytest.raises(BackboneRefused, match=r"leave backbone\.factory empty"):
        run_queries(config, ComparisonOptions(tmp_path), console=QUIET)


def test_two_towers_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BackboneRefused, match="query_aspects go with any trunk but dssm"):
        run_queries(Config(backbone=BackboneConfig(trunk="dssm")), ComparisonOptions(tmp_path), console=QUIET)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [["--detectors"], ["--adapters", "iak"], ["--tune"]])
def test_options_that_do_not_go_with_it_are_refused(more: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--queries", *more, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "does not go with" in result.output
