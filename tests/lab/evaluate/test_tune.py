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
from lab.evaluate.plan import Plan
from lab.evaluate.prequential import Outcome, run
from streaming.config import Config

pytestmark = pytest.mark.slow


def test_tuning_takes_the_rate_with_the_largest_sum_of_gains() -> None:
    s, t = ("s", 1000), ("t", 1000)
    gains = {"a": {0.1: {s: 0.01, t: -0.03}, 1.0: {s: 0.0, t: 0.0}}, "b": {0.1: {s: 0.1, ("s", 1001): 0.3, t: 0.0}}}
    assert tune_module.best(gains) == {"a": 1.0, "b": 0.1}
    console = Console(record=True, width=80)
    tune_module.show(gains, console)
    text = console.export_text()
    assert "1*" in text
    assert "+0.2000" in text and "+0.1333" in text


def test_tuning_runs_every_rate_on_seeds_of_its_own(
    tiny: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "choose", lambda *_, quick: [replace(tiny.sources[0], name="abrupt")])
    monkeypatch.setattr(tune_module, "make_plan", lambda *_, **__: replace(tiny, adapters=("closed-form",)))
    gains = tune_module.tune(Config(), tmp_path, ("closed-form",))
    rates = ADAPTERS["closed-form"].rates
    assert list(gains["closed-form"]) == list(rates)
    assert all(set(by_run) == {("abrupt", 1000), ("abrupt", 1001)} for by_run in gains["closed-form"].values())
    assert not set(tune_module.TUNING_SEEDS) & set(tiny.seeds)


def test_a_rate_that_breaks_an_adapter_loses_and_stops_nothing(
    tiny: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_or_break(adapter: ClosedForm, *rest: Any) -> Outcome:
        if adapter._path.half_life < 2e3:
            raise FloatingPointError("logits are not finite")
        return run(adapter, *rest)

    monkeypatch.setattr(tune_module, "run", run_or_break)
    monkeypatch.setattr(tune_module, "choose", lambda *_, quick: [replace(tiny.sources[0], name="abrupt")])
    monkeypatch.setattr(tune_module, "make_plan", lambda *_, **__: replace(tiny, adapters=("closed-form",)))
    gains = tune_module.tune(Config(), tmp_path, ("closed-form",))
    assert set(gains["closed-form"][1e3].values()) == {-math.inf}
    assert tune_module.best(gains)["closed-form"] > 1e3
