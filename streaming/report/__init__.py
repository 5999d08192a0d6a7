"""What a run did: from the log itself to figures, a table, a file for programs and a plot."""

from streaming.report.figures import Arm, KernelSwap, Report, Run, Usage, build_report
from streaming.report.log import LogUnreadableError, PublishedKernels, count_dead_letters, read_kernels, read_traffic
from streaming.report.plot import draw_plot
from streaming.report.stream import ScoredStream, scored_stream
from streaming.report.table import report_table

__all__ = [
    "Arm",
    "KernelSwap",
    "LogUnreadableError",
    "PublishedKernels",
    "Report",
    "Run",
    "ScoredStream",
    "Usage",
    "build_report",
    "count_dead_letters",
    "draw_plot",
    "read_kernels",
    "read_traffic",
    "report_table",
    "scored_stream",
]
