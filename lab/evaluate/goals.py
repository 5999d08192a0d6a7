"""What a kernel must show against full fine-tuning and against T with a linear head, asked of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lab.evaluate.compare import FULL
from lab.evaluate.report import NO_DRIFT, AdapterRow, CostRow, EvaluationReport

KERNEL, HEAD = "iak-d", "live-head"
_PARAMETERS, _CPU, _FORGETTING = 1 / 5, 1 / 3, 1 / 2
_HARM = 0.001


@dataclass(frozen=True)
class Goal:
    """One question to the report."""

    question: str
    found: str
    met: bool


def goals(report: EvaluationReport) -> list[Goal]:
    """Every goal that the report's streams and adapters can answer; none without the kernel and full fine-tuning."""
    found = _Found(report)
    if not {KERNEL, FULL} <= set(report.plan["adapters"]):
        return []
    return [*_recovery(found), *_costs(found), *_against_head(found), *_single_streams(found)]


class _Found:
    """Rows and costs by name."""

    def __init__(self, report: EvaluationReport) -> None:
        self.rows: dict[str, dict[str, AdapterRow]] = {
            stream.name: {row.adapter: row for row in stream.rows} for stream in report.streams
        }
        self.costs: dict[str, CostRow] = {cost.adapter: cost for cost in report.costs}
        self.against_full = report.against_full


def _recovery(found: _Found) -> Iterator[Goal]:
    shares = {name: rows[KERNEL].recovered for name, rows in found.rows.items()}
    known = {name: share for name, share in shares.items() if not math.isnan(share)}
    if known:
        said = ", ".join(f"{name} {share:.0%}" for name, share in known.items())
        yield Goal("recovers at least what full fine-tuning recovers, on each stream", said, min(known.values()) >= 1)
    lead = found.against_full[KERNEL]
    yield Goal("stands above full fine-tuning over all streams", str(lead), lead.low > 0)


def _costs(found: _Found) -> Iterator[Goal]:
    own, full = found.costs[KERNEL], found.costs[FULL]
    size, time = own.parameters / full.parameters, own.cpu_s_per_100k / full.cpu_s_per_100k
    yield Goal("has at most a fifth of its parameters", f"1/{1 / size:.0f}", size <= _PARAMETERS)
    yield Goal("takes at most a third of its processor time", f"{time:.2f}", time <= _CPU)


def _against_head(found: _Found) -> Iterator[Goal]:
    leads = {name: (rows[KERNEL].lead.mean - rows[HEAD].lead.mean) for name, rows in found.rows.items() if HEAD in rows}
    if not leads:
        return
    below = {name: lead for name, lead in leads.items() if lead < 0}
    said = f"mean {sum(leads.values()) / len(leads):+.4f}; " + (
        "below on " + ", ".join(_below(name, found.rows[name]) for name in below) if below else "below on none"
    )
    yield Goal("is not below T with a linear head on any stream", said, not below)


def _below(name: str, rows: dict[str, AdapterRow]) -> str:
    lead, windowed = (
        getattr(rows[KERNEL], what).mean - getattr(rows[HEAD], what).mean for what in ("lead", "windowed_lead")
    )
    return f"{name} ({lead:+.4f}; {windowed:+.4f} within windows of time)"


def _single_streams(found: _Found) -> Iterator[Goal]:
    for name, rows in found.rows.items():
        own, full = rows[KERNEL].forgetting, rows[FULL].forgetting
        if not (math.isnan(own.mean) or math.isnan(full.mean)):
            said = f"{own} against {full}"
            met = own.mean <= _FORGETTING * max(full.mean, 0.0)
            yield Goal(f"{name}: forgets at most half as much when a taste returns", said, met)
        if name == NO_DRIFT:
            lead = rows[KERNEL].lead
            yield Goal(f"{name}: never more than {_HARM} AUC below frozen", f"{lead.mean:+.4f}", lead.mean >= -_HARM)
        if name.startswith("movielens"):
            over = rows[KERNEL].against_full
            yield Goal(f"{name}: stands above full fine-tuning", str(over), over.mean > 0)
