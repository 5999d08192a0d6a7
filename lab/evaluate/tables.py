"""The report in the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console

from lab.evaluate.bootstrap import FIGURES
from lab.evaluate.cells import amount, difference_cell, interval_cell, number, signed
from lab.evaluate.compare import FROZEN
from lab.evaluate.conversions import conversion_table
from lab.evaluate.goals import NOT_RUN, Goal, goals
from lab.evaluate.information_plane import domain_table, information_table
from lab.evaluate.measures import AROUND_RETURN
from lab.evaluate.named_tables import Cells, NamedTable, markdown_page, show_tables
from lab.evaluate.part_tables import part_tables
from lab.evaluate.plan import KERNEL
from lab.evaluate.report import AdapterRow, EvaluationReport, StreamReport
from lab.evaluate.slice_tables import slice_tables
from lab.streams import standard_suite

ORACLE = "oracle"
"""The row of a scorer that knows every click probability of a scripted stream: the head-room above frozen."""


def show(report: EvaluationReport, console: Console) -> None:
    """Prints all tables in the terminal."""
    show_tables(tables(report), console)


def markdown(report: EvaluationReport) -> str:
    """All tables as a Markdown page."""
    seeds = len(report.plan["seeds"])
    about = (
        f"Commit `{report.commit or 'unknown'}`, {amount(seeds, 'seed')}, settings `{report.plan['key']}`. "
        "Prequential (test, then train): every example is scored before any adapter learns from it. "
        "The first figures are those of a ranker: AUC within requests (weighted by the request's items) and NDCG, over "
        "the requests that hold both labels. All against what users really did; *in windows*: the mean over 20 "
        "stretches of time; *oracle*: a scorer that knows every click probability of a script. "
        "± is a 95 % interval over the seeds (Student's t); differences are paired "
        "by seed. The seeds of a log only train the backbone anew: there a second interval tells how far the "
        "difference from the kernel would move with other users (a bootstrap over users). Each adapter runs at its own "
        "tuned learning rate, tuned on streams of another seed."
    )
    return markdown_page("Evaluation", about, tables(report))


def tables(report: EvaluationReport) -> list[NamedTable]:
    """Title, heads and cells of every table, the overview first."""
    return [
        ("All streams: AUC within requests above frozen", *_ranking(report)),
        ("All streams: AUC above frozen, and costs", *_overview(report)),
        *((f"What {KERNEL} must show", *_goals(asked)) for asked in [goals(report)] if asked),
        *part_tables(report),
        *((_title(stream), *_stream(stream)) for stream in report.streams),
        *(
            (f"{stream.name}: above {KERNEL}, intervals over the log's users", *_with_other_users(stream))
            for stream in report.streams
            if stream.rows[0].users_against_kernel
        ),
        *(conversion_table(stream.name, stream.conversions) for stream in report.streams if stream.conversions),
        *(
            (f"{stream.name}: AUC above frozen around the return of the old taste", *_around(stream))
            for stream in report.streams
            if any(row.around_return for row in stream.rows)
        ),
        *(table for stream in report.streams for table in slice_tables(stream)),
        *((f"{stream.name}: AUC by domain", *_domains(stream)) for stream in report.streams if stream.rows[0].domains),
        *_information(report),
    ]


def _information(report: EvaluationReport) -> Iterator[NamedTable]:
    """Tables of the kernel's information; none if no run measured it."""
    known = [stream for stream in report.streams if stream.information]
    if known:
        yield f"Information in {KERNEL}, nats", *information_table(known)
    for stream in known:
        if stream.information[0].domains:
            yield f"{stream.name}: matching by domain, nats per example", *domain_table(stream)


def _title(stream: StreamReport) -> str:
    best = f", best possible AUC {stream.oracle_auc:.4f}, within requests {stream.oracle_request_auc:.4f}"
    oracle = "" if math.isnan(stream.oracle_auc) else best
    return f"{stream.name} ({stream.examples:,} examples, {stream.lists:,} requests with both labels{oracle})"


def _ranking(report: EvaluationReport) -> tuple[list[str], Cells]:
    means = [report.request_leads, *([report.script_request_leads] if _scripts_among_others(report) else [])]
    body = [
        [name, *_leads(report, name, "request_auc_lead"), *(difference_cell(mean[name]) for mean in means)]
        for name in report.plan["adapters"]
    ]
    best = _head_room([s.oracle_request_auc - _frozen(s).request_auc.mean for s in report.streams], len(means))
    return ["adapter", *(stream.name for stream in report.streams), *_means(report)], [*body, *best]


def _means(report: EvaluationReport) -> list[str]:
    return ["mean", *(["mean of scripts"] if _scripts_among_others(report) else [])]


def _scripts_among_others(report: EvaluationReport) -> bool:
    """Whether the mean over the standard suite's scripts is another than that over all streams: goals ask for it."""
    scripts = [stream.name in standard_suite() and not stream.altered for stream in report.streams]
    return any(scripts) and not all(scripts)


def _leads(report: EvaluationReport, adapter: str, lead: str) -> list[str]:
    """An adapter's lead over frozen on each stream."""
    rows = [row for stream in report.streams for row in stream.rows if row.adapter == adapter]
    return [signed(getattr(row, lead).mean) for row in rows]


def _head_room(leads: list[float], blanks: int) -> Cells:
    """The row of the oracle, followed by blank cells; none if no stream is scripted."""
    return [] if all(map(math.isnan, leads)) else [[ORACLE, *map(signed, leads), *[""] * blanks]]


def _frozen(stream: StreamReport) -> AdapterRow:
    return next(row for row in stream.rows if row.adapter == FROZEN)


def _overview(report: EvaluationReport) -> tuple[list[str], Cells]:
    costs = {cost.adapter: cost for cost in report.costs}
    means = [report.leads, *([report.script_leads] if _scripts_among_others(report) else [])]
    head = [
        "adapter",
        *(stream.name for stream in report.streams),
        *_means(report),
        "against full",
        "parameters",
        "CPU s / 100 k",
    ]
    body = [
        [
            name,
            *_leads(report, name, "lead"),
            *(difference_cell(mean[name]) for mean in means),
            difference_cell(report.against_full[name]) if name in report.against_full else "",
            f"{costs[name].parameters:,}",
            f"{costs[name].cpu_s_per_100k:.1f}",
            f"{costs[name].state_bytes / 1e3:,.0f}",
        ]
        for name in report.plan["adapters"]
    ]
    best = _head_room([stream.oracle_auc - _frozen(stream).auc.mean for stream in report.streams], 4 + len(means))
    return [*head, "state kB"], [*body, *best]


def _goals(asked: list[Goal]) -> tuple[list[str], Cells]:
    words = {True: "yes", False: "no", None: NOT_RUN}
    return ["goal", "measured", "met"], [[goal.question, goal.measured, words[goal.met]] for goal in asked]


def _stream(stream: StreamReport) -> tuple[list[str], Cells]:
    head = [
        "adapter", "AUC in requests", "above frozen in requests", "NDCG@5", "NDCG@10", "AUC", "above frozen",
        "in windows", "above full", "log loss", "NE", "calibration", "recovered", "examples to half", "forgetting",
    ]  # fmt: skip
    body = [
        [
            row.adapter,
            interval_cell(row.request_auc),
            difference_cell(row.request_auc_lead),
            number(row.ndcg_5.mean),
            number(row.ndcg_10.mean),
            interval_cell(row.auc),
            difference_cell(row.lead),
            difference_cell(row.windowed_lead),
            difference_cell(row.against_full),
            number(row.log_loss),
            number(row.normalised_entropy),
            number(row.calibration, 3),
            "" if math.isnan(row.recovered) else f"{row.recovered:.0%}",
            "" if row.examples_to_half is None else f"{row.examples_to_half:,}",
            difference_cell(row.forgetting),
        ]
        for row in stream.rows
    ]
    return head, [*body, *_oracle(stream, len(head))]


def _oracle(stream: StreamReport, width: int) -> Cells:
    """The results of a scorer that knows every true probability; no row for a log."""
    if math.isnan(stream.oracle_auc):
        return []
    figures = (stream.oracle_request_auc, stream.oracle_auc)
    frozen = (_frozen(stream).request_auc.mean, _frozen(stream).auc.mean)
    (request, request_lead), (area, lead) = ((number(a), signed(a - b)) for a, b in zip(figures, frozen, strict=True))
    cells = [ORACLE, request, request_lead, "", "", area, lead]
    return [[*cells, *[""] * (width - len(cells))]]


def _with_other_users(stream: StreamReport) -> tuple[list[str], Cells]:
    """Whether a difference from the kernel would hold with other users; a lower log loss is better."""
    others = [row for row in stream.rows if row.adapter != KERNEL]
    body = [[row.adapter, *(difference_cell(row.users_against_kernel[figure]) for figure in FIGURES)] for row in others]
    return ["adapter", "AUC in requests", "AUC", "log loss"], body


def _around(stream: StreamReport) -> tuple[list[str], Cells]:
    return ["adapter", *AROUND_RETURN], [[row.adapter, *map(signed, row.around_return)] for row in stream.rows]


def _domains(stream: StreamReport) -> tuple[list[str], Cells]:
    names = sorted({name for row in stream.rows for name in row.domains}, key=domain_order)
    body = [[row.adapter, *(number(row.domains.get(name, math.nan)) for name in names)] for row in stream.rows]
    return ["adapter", *names], body


def domain_order(name: str) -> tuple[str, int]:
    """Sort key of a key of `Measures.domains`: the first 500 examples of a value come before its first 2 000.

    >>> sorted(["scene=a, first 2000", "scene=b", "scene=a, first 500", "scene=a"], key=domain_order)
    ['scene=a', 'scene=a, first 500', 'scene=a, first 2000', 'scene=b']
    """
    value, _, count = name.partition(", first ")
    return value, int(count or 0)
