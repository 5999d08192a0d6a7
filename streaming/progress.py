"""Progress bars, the same wherever something takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


def bars(console: Console) -> Progress:
    """Progress bars with the time taken and a note beside each; `note` must be given for every task."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )


def reporter(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    """A `(done, total)` callback that moves `task`."""
    return lambda done, total: progress.update(task, completed=done, total=total)
