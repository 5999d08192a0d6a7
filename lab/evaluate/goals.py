"""Goals for the kernel, checked against a report on the streams that were run, by means over seeds.

The figures of a ranker come first (docs/decisions/0065). Gains are over the frozen model, those on logs are absolute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lab.evaluate.compare import FULL
from lab.evaluate.plan import KERNEL
from lab.evaluate.report import AdapterRow, EvaluationReport
from lab.intervals import Interval
from lab.streams import standard_suite
from lab.streams.logged.movielens_stream import MOVIELENS

KUAIRAND = "kuairand-pure"
KUAIRAND_DAYS = "24 to 29 April 2022"
RIVALS = (
    "item-mean", "counters", "counters-lr", "als", "knn", "refit",
    "iak-paper-a", "iak-paper-b", "iak-paper-d", "lora-path-trust", "houlsby-path-trust", "full-path-trust",
)  # fmt: skip
"""Adapters that the kernel must beat on real impressions: counters and models of them, and the paper's kernel and the
literature's adapters with everything that the kernel has besides its core."""
NOT_RUN = "not run"
_SCRIPTS = 0.02


@dataclass(frozen=True)
class Goal:
    """One goal, and whether a report meets it."""

    question: str
    measured: str
    met: bool | None
    """None if the report cannot decide: a stream or an adapter did not run, or a script was shortened."""


@dataclass(frozen=True)
class _Bound:
    """A figure of the kernel on one stream, and what it has to reach."""

    stream: str
    title: str
    figure: Callable[[AdapterRow], Interval | float]
    at_least: float = -math.inf
    at_most: float = math.inf


_BOUNDS = (
    _Bound(KUAIRAND, f"KuaiRand, {KUAIRAND_DAYS}: AUC within requests", lambda row: row.request_auc, at_least=0.622),
    _Bound(KUAIRAND, f"KuaiRand, {KUAIRAND_DAYS}: AUC", lambda row: row.auc, at_least=0.727),
    _Bound(KUAIRAND, f"KuaiRand, {KUAIRAND_DAYS}: log loss", lambda row: row.log_loss, at_most=0.598),
    _Bound(MOVIELENS, "MovieLens 100K: AUC within requests", lambda row: row.request_auc, at_least=0.660),
    _Bound(MOVIELENS, "MovieLens 100K: AUC", lambda row: row.auc, at_least=0.724),
    _Bound("feedback", "feedback: AUC above frozen", lambda row: row.lead, at_least=0.005),
    _Bound("recurring", "recurring: forgetting", lambda row: row.forgetting, at_most=0.004),
    _Bound("no-drift", "no-drift: AUC above frozen", lambda row: row.lead, at_least=0.004),
)


def goals(report: EvaluationReport) -> list[Goal]:
    """Every goal, met, missed or not run; none at all for a report that answers not one of them."""
    if KERNEL not in report.plan["adapters"]:
        return []
    whole = [stream for stream in report.streams if not stream.altered]
    rows = {stream.name: {row.adapter: row for row in stream.rows} for stream in whole}
    bounds = [_judged(bound, rows.get(bound.stream, {}).get(KERNEL)) for bound in _BOUNDS]
    asked = [*_scripts(report), *bounds, _above_rivals(rows.get(KUAIRAND, {})), *_costs(report)]
    return asked if any(goal.met is not None for goal in asked) else []


def _scripts(report: EvaluationReport) -> Iterator[Goal]:
    scripts = standard_suite()
    run = sum(stream.name in scripts and not stream.altered for stream in report.streams)
    for measure, leads in (("AUC within requests", report.script_request_leads), ("AUC", report.script_leads)):
        question = f"{len(scripts)} scripts, mean {measure} above frozen: at least {_SCRIPTS:.3f}"
        lead = leads[KERNEL]
        if math.isnan(lead.mean):
            yield Goal(question, NOT_RUN, None)
        elif run < len(scripts):
            yield Goal(question, f"{lead} on {run} of them", None)
        else:
            yield Goal(question, str(lead), lead.mean >= _SCRIPTS)


def _judged(bound: _Bound, row: AdapterRow | None) -> Goal:
    least = math.isfinite(bound.at_least)
    wanted = f"at least {bound.at_least:.3f}" if least else f"at most {bound.at_most:.3f}"
    question = f"{bound.title}: {wanted}"
    figure = bound.figure(row) if row is not None else math.nan
    mean = figure.mean if isinstance(figure, Interval) else figure
    if math.isnan(mean):
        return Goal(question, NOT_RUN, None)
    measured = str(figure).lstrip("+") if isinstance(figure, Interval) else f"{figure:.4f}"
    return Goal(question, measured, bound.at_least <= mean <= bound.at_most)


def _above_rivals(rows: dict[str, AdapterRow]) -> Goal:
    """Above each rival within requests, in AUC and in log loss."""
    question = f"KuaiRand, {KUAIRAND_DAYS}: above each of {len(RIVALS)} rivals within requests, in AUC and log loss"
    run = [name for name in RIVALS if name in rows]
    if KERNEL not in rows or not run:
        return Goal(question, NOT_RUN, None)
    below = [text for name in run if (text := _below(rows[KERNEL], rows[name]))]
    missing = f"; {NOT_RUN}: {', '.join(name for name in RIVALS if name not in rows)}" if len(run) < len(RIVALS) else ""
    met = False if below else None if missing else True
    return Goal(question, f"not above {', '.join(below) or 'none'}{missing}", met)


def _below(kernel: AdapterRow, rival: AdapterRow) -> str:
    """The rival's name with the figures in which the kernel is not above it; empty if it is above in all."""
    leads = {
        "requests": kernel.request_auc.mean - rival.request_auc.mean,
        "AUC": kernel.auc.mean - rival.auc.mean,
        "log loss": rival.log_loss - kernel.log_loss,
    }
    lost = [f"{measure} {lead:+.4f}" for measure, lead in leads.items() if not lead > 0]
    return f"{rival.adapter} ({', '.join(lost)})" if lost else ""


def _costs(report: EvaluationReport) -> Iterator[Goal]:
    costs = {cost.adapter: cost for cost in report.costs}
    kernel, full = costs[KERNEL], costs.get(FULL)
    numbers, time = f"learned numbers against {FULL}: at most 1/200", f"processor time against {FULL}: at most 0.05"
    if full is None or not kernel.parameters or not full.cpu_s_per_100k:
        yield from (Goal(numbers, NOT_RUN, None), Goal(time, NOT_RUN, None))
        return
    size, share = full.parameters / kernel.parameters, kernel.cpu_s_per_100k / full.cpu_s_per_100k
    state = f"{kernel.parameters:,} of {full.parameters:,}; {kernel.state_bytes / 1e3:,.0f} kB of state in all"
    yield Goal(numbers, f"1/{size:.0f} ({state})", size >= 200)
    yield Goal(time, f"{share:.3f}", share <= 0.05)
