"""What a run did: from the log itself to figures, a table, a file for programs and a plot."""

from streaming.report.drift import AnnouncedSpan, announced_spans
from streaming.report.figures import Arm, KernelSwap, Report, Run, Usage, build_report
from streaming.report.log import (
    LogUnreadableError,
    PublishedKernels,
    count_dead_letters,
    read_drift,
    read_kernels,
    read_traffic,
)
from streaming.report.plot import draw_plot
from streaming.report.stream import ScoredStream, scored_stream
from streaming.report.table import report_table

__all__ = [
    "AnnouncedSpan",
    "Arm",
    "KernelSwap",
    "LogUnreadableError",
    "PublishedKernels",
    "Report",
    "Run",
    "ScoredStream",
    "Usage",
    "announced_spans",
    "build_report",
    "count_dead_letters",
    "draw_plot",
    "read_drift",
    "read_kernels",
    "read_traffic",
    "report_table",
    "scored_stream",
]
