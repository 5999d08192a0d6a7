"""The report of a run, from its log: figures, a table, a JSON file and a plot."""

from local.report.drift import AnnouncedSpan, announced_spans
from local.report.figures import Arm, KernelUse, Run, RunReport, Usage, build_report
from local.report.log import (
    LogUnreadableError,
    PublishedKernels,
    read_drift,
    read_kernels,
    read_traffic,
)
from local.report.plot import draw_plot
from local.report.stream import ScoredStream, scored_stream
from local.report.table import report_table

__all__ = [
    "AnnouncedSpan",
    "Arm",
    "KernelUse",
    "LogUnreadableError",
    "PublishedKernels",
    "Run",
    "RunReport",
    "ScoredStream",
    "Usage",
    "announced_spans",
    "build_report",
    "draw_plot",
    "read_drift",
    "read_kernels",
    "read_traffic",
    "report_table",
    "scored_stream",
]
