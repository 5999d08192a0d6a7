"""The entry of `driftline bases`: the table of base against baselines, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from lab.bases.baselines import BASELINES
from lab.bases.compare import BaseRow, compare_bases
from lab.bases.presets import BASES
from lab.intervals import interval
from lab.progress import bars
from lab.streams.choice import StreamChoice, open_recording
from streaming.config import Config

_FIGURES = ("request_auc", "auc", "log_loss", "calibration")
_HEAD = ("model", "AUC in requests", "AUC", "log loss", "calibration", "what it is")


def run_bases(config: Config, choice: StreamChoice, seeds: int, console: Console | None = None) -> str:
    """Trains base and baselines on the first half of a stream, MovieLens 100K if none is named, and gives the table.

    Each figure is a mean over the seeds with its 95 % interval (Student's t); another seed is another stream of a
    script, and another start of whatever is random on a log. Raises StreamError, DataUnavailableError,
    TextModelUnavailableError or TextWidthError; each message names the cure.
    """
    console = console or Console(stderr=True)
    recordings, rows = {}, dict[str, list[BaseRow]]()
    for seed in range(seeds):
        recordings[seed] = open_recording(config, choice, console, seed)
    with bars(console) as progress:
        task = progress.add_task("bases", total=seeds * (len(BASES) + len(BASELINES)), note=recordings[0].title)
        for seed, recording in recordings.items():
            for row in compare_bases(config, recording, seed):
                rows.setdefault(row.name, []).append(row)
                progress.update(task, advance=1, note=f"seed {seed}: {row.name}, AUC {row.auc:.4f}")
    return table(recordings[0].title, list(rows.values()))


def table(name: str, rows: Sequence[Sequence[BaseRow]]) -> str:
    """One row per model; `rows` holds its measures by seed."""
    lines = [f"{name}, seeds: {len(rows[0])}", "", _line(_HEAD), "|---" + "|---:" * len(_FIGURES) + "|---|"]
    for seeds in rows:
        figures = [str(interval([getattr(row, figure) for row in seeds])).lstrip("+") for figure in _FIGURES]
        lines.append(_line([seeds[0].name, *figures, seeds[0].about]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
