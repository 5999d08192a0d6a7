"""What a kernel must show against full fine-tuning and against T with a linear head, asked of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lab.evaluate.compare import FULL
from lab.evaluate.plan import KERNEL
from lab.evaluate.report import NO_DRIFT, AdapterRow, CostRow, EvaluationReport

HEAD = "live-head"
_PARAMETERS, _CPU, _FORGETTING = 1 / 5, 1 / 3, 1 / 2
_HARM = 0.001


@dataclass(frozen=True)
class Goal:
    """One question to the report."""

    question: str
    measured: str
    met: bool


def goals(report: EvaluationReport) -> list[Goal]:
    """Every goal that the report's streams and adapters can answer; none without the kernel and full fine-tuning."""
    if not {KERNEL, FULL} <= set(report.plan["adapters"]):
        return []
    figures = _Figures(report)
    return [*_recovery(figures), *_costs(figures), *_against_head(figures), *_single_streams(figures)]


class _Figures:
    """Rows and costs by name."""

    def __init__(self, report: EvaluationReport) -> None:
        self.rows: dict[str, dict[str, AdapterRow]] = {
            stream.name: {row.adapter: row for row in stream.rows} for stream in report.streams
        }
        self.costs: dict[str, CostRow] = {cost.adapter: cost for cost in report.costs}
        self.against_full = report.against_full


def _recovery(figures: _Figures) -> Iterator[Goal]:
    shares = {name: rows[KERNEL].recovered for name, rows in figures.rows.items()}
    known = {name: share for name, share in shares.items() if not math.isnan(share)}
    if known:
        measured = ", ".join(f"{name} {share:.0%}" for name, share in known.items())
        met = min(known.values()) >= 1
        yield Goal("recovers at least what full fine-tuning recovers, on each stream", measured, met)
    lead = figures.against_full[KERNEL]
    if not math.isnan(lead.mean):
        yield Goal("stands above full fine-tuning over all streams", str(lead), lead.low > 0)


def _costs(figures: _Figures) -> Iterator[Goal]:
    own, full = figures.costs[KERNEL], figures.costs[FULL]
    if own.parameters and full.parameters:
        size = own.parameters / full.parameters
        yield Goal("has at most a fifth of its parameters", f"1/{1 / size:.0f}", size <= _PARAMETERS)
    if full.cpu_s_per_100k:
        time = own.cpu_s_per_100k / full.cpu_s_per_100k
        yield Goal("takes at most a third of its processor time", f"{time:.2f}", time <= _CPU)


def _against_head(figures: _Figures) -> Iterator[Goal]:
    both = {name: rows for name, rows in figures.rows.items() if HEAD in rows}
    leads = {name: rows[KERNEL].lead.mean - rows[HEAD].lead.mean for name, rows in both.items()}
    known = {name: lead for name, lead in leads.items() if not math.isnan(lead)}
    if not known:
        return
    below = [_below(name, figures.rows[name]) for name, lead in known.items() if lead < 0]
    measured = f"mean {sum(known.values()) / len(known):+.4f}; below on {', '.join(below) or 'none'}"
    yield Goal("is not below T with a linear head on any stream", measured, not below)


def _below(name: str, rows: dict[str, AdapterRow]) -> str:
    lead, windowed = (
        getattr(rows[KERNEL], what).mean - getattr(rows[HEAD], what).mean for what in ("lead", "windowed_lead")
    )
    within = "" if math.isnan(windowed) else f"; {windowed:+.4f} within windows of time"
    return f"{name} ({lead:+.4f}{within})"


def _single_streams(figures: _Figures) -> Iterator[Goal]:
    for name, rows in figures.rows.items():
        own, full = rows[KERNEL].forgetting, rows[FULL].forgetting
        if not (math.isnan(own.mean) or math.isnan(full.mean)):
            met = own.mean <= _FORGETTING * max(full.mean, 0.0)
            yield Goal(f"{name}: forgets at most half as much when a taste returns", f"{own} against {full}", met)
        lead, over = rows[KERNEL].lead, rows[KERNEL].against_full
        if name == NO_DRIFT and not math.isnan(lead.mean):
            yield Goal(f"{name}: never more than {_HARM} AUC below frozen", f"{lead.mean:+.4f}", lead.mean >= -_HARM)
        if name.startswith("movielens") and not math.isnan(over.mean):
            yield Goal(f"{name}: stands above full fine-tuning", str(over), over.mean > 0)
