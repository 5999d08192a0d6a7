"""Tuning: every rate, on streams that no evaluation sees."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import lab.evaluate.tune as tune_module
from lab.adapters import ADAPTERS
from lab.adapters.closed_form import ClosedForm
from lab.evaluate.options import TUNING_SEEDS, ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.prequential import Outcome, run
from lab.evaluate.tune import Gain, tuning_sources
from lab.streams.sources import NamedStreams

pytestmark = pytest.mark.slow


def both(gain: float) -> Gain:
    return Gain(gain, gain)


def test_tuning_takes_the_rate_with_the_largest_sum_of_gains_within_requests() -> None:
    s, t = ("s", 1000), ("t", 1000)
    gains = {
        "a": {0.1: {s: Gain(0.01, 0.5), t: both(-0.03)}, 1.0: {s: both(0.0), t: both(0.0)}},
        "b": {0.1: {s: both(0.1), ("s", 1001): Gain(0.3, 0.2), t: both(0.0)}},
        "c": {0.1: {s: both(0.0), t: both(0.0)}, 1.0: {s: Gain(0.0, 0.1), t: both(0.0)}},
    }
    assert tune_module.best(gains) == {"a": 1.0, "b": 0.1, "c": 1.0}
    console = Console(record=True, width=120)
    tune_module.show(gains, console)
    text = console.export_text()
    assert "1*" in text
    assert "+0.2000 / +0.1500" in text and "+0.1333 / +0.1000" in text


def test_rates_are_tuned_on_the_standard_suite_unless_streams_are_chosen() -> None:
    assert [source.name for source in tuning_sources(NamedStreams())] == list(tune_module.STREAMS)
    assert [source.name for source in tuning_sources(NamedStreams(script=Path("gradual")))] == ["gradual"]


def test_tuning_runs_every_rate_on_every_seed(tiny: Plan) -> None:
    one = replace(tiny, sources=tiny.sources[:1], adapters=("closed-form",), seeds=TUNING_SEEDS)
    gains = tune_module.tune(one, Console(quiet=True))
    rates = ADAPTERS["closed-form"].rates
    assert list(gains["closed-form"]) == list(rates)
    assert all(set(by_run) == {("drift", 1000), ("drift", 1001)} for by_run in gains["closed-form"].values())


def test_tuning_seeds_differ_from_report_seeds() -> None:
    assert ComparisonOptions(Path("out"), tune=True).seeds_or(5) == TUNING_SEEDS
    assert not set(TUNING_SEEDS) & set(ComparisonOptions(Path("out")).seeds_or(100))


def test_a_rate_at_which_an_adapter_diverges_loses_without_ending_the_run(
    tiny: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_or_break(adapter: ClosedForm, *rest: Any) -> Outcome:
        if adapter._path.half_life < 2e3:
            raise FloatingPointError("logits are not finite")
        return run(adapter, *rest)

    monkeypatch.setattr(tune_module, "run", run_or_break)
    one = replace(tiny, sources=tiny.sources[:1], adapters=("closed-form",))
    gains = tune_module.tune(one, Console(quiet=True))
    assert set(gains["closed-form"][1e3].values()) == {Gain(-math.inf, -math.inf)}
    assert tune_module.best(gains)["closed-form"] > 1e3
