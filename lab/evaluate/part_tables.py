"""The value of each part of the kernel: the kernel beside adapters that lack that part."""

from __future__ import annotations

from collections.abc import Iterator

from lab.evaluate.cells import difference_cell
from lab.evaluate.named_tables import Cells, NamedTable
from lab.evaluate.plan import ALL_ADAPTERS, KERNEL
from lab.evaluate.report import EvaluationReport


def part_tables(report: EvaluationReport) -> Iterator[NamedTable]:
    """Title, head and cells: what each part of the kernel is worth, over all streams and on each.

    An ablation is an adapter whose `AdapterSpec` names its `part`; without one there is no table.
    """
    if not report.against_kernel:
        return
    yield f"Parts of {KERNEL}: each left out or changed", *_parts(report)
    if KERNEL in report.plan["adapters"]:
        yield (
            f"Parts of {KERNEL}: AUC within requests above {KERNEL}, by stream",
            *_parts_by_stream(report, "request_against_kernel"),
        )
        yield f"Parts of {KERNEL}: AUC above {KERNEL}, by stream", *_parts_by_stream(report, "against_kernel")


def _parts(report: EvaluationReport) -> tuple[list[str], Cells]:
    """The kernel, then its ablations in the order of the parts; the order of a request's items first."""
    costs = {cost.adapter: cost for cost in report.costs}
    body = [
        [
            ALL_ADAPTERS[name].part or "the kernel",
            ALL_ADAPTERS[name].about,
            difference_cell(report.request_leads[name]),
            difference_cell(report.request_against_kernel[name]) if name in report.request_against_kernel else "",
            difference_cell(report.leads[name]),
            difference_cell(report.against_kernel[name]) if name in report.against_kernel else "",
            f"{costs[name].parameters:,}",
            f"{costs[name].cpu_s_per_100k:.1f}",
        ]
        for name in (*([KERNEL] if KERNEL in costs else []), *_ablations(report))
    ]
    head = [
        "part", "variant", "above frozen in requests", f"above {KERNEL} in requests", "above frozen", f"above {KERNEL}",
        "parameters", "CPU s / 100 k",
    ]  # fmt: skip
    return head, body


def _ablations(report: EvaluationReport) -> list[str]:
    """Adapters that differ from the kernel in one part, in the order of the parts."""
    parts = list(dict.fromkeys(ALL_ADAPTERS[name].part for name in report.against_kernel))
    return sorted(report.against_kernel, key=lambda name: parts.index(ALL_ADAPTERS[name].part))


def _parts_by_stream(report: EvaluationReport, figure: str) -> tuple[list[str], Cells]:
    """The streams on which the kernel gets worse without each part; `figure` is a row's lead over the kernel."""
    rows = [{row.adapter: row for row in stream.rows} for stream in report.streams]
    body = [
        [name, *(difference_cell(getattr(of_stream[name], figure)) for of_stream in rows)]
        for name in _ablations(report)
    ]
    return ["adapter", *(stream.name for stream in report.streams)], body
