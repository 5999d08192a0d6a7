"""Progress bars, the same wherever something takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column


def bars(console: Console) -> Progress:
    """Progress bars with the time taken and a note beside each; `note` must be given for every task."""
    whole, rest = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("[bold]{task.description:11}", table_column=whole),
        BarColumn(bar_width=20, table_column=Column(min_width=10)),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=11)),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("[dim]{task.fields[note]}", table_column=rest),
        console=console,
        expand=True,
    )


def reporter(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    """A `(done, total)` callback that moves `task`."""
    return lambda done, total: progress.update(task, completed=done, total=total)
