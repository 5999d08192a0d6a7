"""What each way is worth on each target, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lab.evaluate.compare import Interval, interval
from lab.targets.scoring import TransferRow
from lab.targets.ways import SCRATCH, WAYS, ZERO_SHOT

FIGURES = {
    "request_auc": "AUC in requests", "auc": "AUC", "log_loss": "log loss", "hit": "HR@10", "ndcg": "NDCG@10"
}  # fmt: skip


def markdown(rows: Sequence[TransferRow]) -> str:
    """A table per target, then what lies beyond the intervals; ± is a 95 % interval over the seeds."""
    seeds = sorted({row.seed for row in rows})
    lines = [f"# From {rows[0].source} to other targets, {len(seeds)} seeds", ""]
    for target in dict.fromkeys(row.target for row in rows):
        of = [row for row in rows if row.target == target]
        lines += [f"## {target}", "", f"| way | {' | '.join(FIGURES.values())} | CPU s | trained |"]
        lines.append(f"|---|{'---:|' * (len(FIGURES) + 2)}")
        lines += [_line([row for row in of if row.way == way]) for way in WAYS if any(row.way == way for row in of)]
        lines += ["", *_sentences(of), ""]
    return "\n".join(lines)


def _line(rows: Sequence[TransferRow]) -> str:
    cells = [_with_spread(interval([getattr(row, figure) for row in rows])) for figure in FIGURES]
    cost = sum(row.cpu_s for row in rows) / len(rows)
    return f"| {rows[0].way} | {' | '.join(cells)} | {cost:.1f} | {max(row.trained for row in rows):,} |"


def _with_spread(found: Interval) -> str:
    if math.isnan(found.mean):
        return ""
    return f"{found.mean:.4f}" + ("" if math.isnan(found.half_width) else f" ±{found.half_width:.4f}")


def _sentences(rows: Sequence[TransferRow]) -> list[str]:
    """Per reference the ways that differ from it beyond the interval, paired by seed."""
    return [
        f"- {_title(figure)}: {_told(rows, figure, ZERO_SHOT)}; {_told(rows, figure, SCRATCH)}"
        for figure in ("request_auc", "log_loss", "hit")
    ]


def _title(figure: str) -> str:
    return FIGURES[figure]


def _told(rows: Sequence[TransferRow], figure: str, against: str) -> str:
    sign = -1 if figure == "log_loss" else 1
    of = {(row.way, row.seed): float(getattr(row, figure)) for row in rows}
    better, worse = [], []
    for way in dict.fromkeys(row.way for row in rows):
        seeds = sorted(seed for name, seed in of if name == way)
        gain = interval([sign * (of[way, seed] - of[against, seed]) for seed in seeds if (against, seed) in of])
        if gain.low > 0:
            better.append(way)
        elif gain.high < 0:
            worse.append(way)
    return f"better than `{against}` {_list(better)}, worse {_list(worse)}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
