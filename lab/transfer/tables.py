"""Results of each method on each target, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.evaluate.cells import amount, interval_cell
from lab.evaluate.named_tables import NamedTable, markdown_page
from lab.intervals import interval
from lab.transfer.methods import METHODS, SCRATCH, ZERO_SHOT
from lab.transfer.scoring import TransferRow

FIGURES = {
    "request_auc": "AUC in requests", "auc": "AUC", "log_loss": "log loss", "hit": "HR@10", "ndcg": "NDCG@10"
}  # fmt: skip


def markdown(rows: Sequence[TransferRow]) -> str:
    """A table per target, then the differences that exceed their intervals."""
    seeds = amount(len({row.seed for row in rows}), "seed")
    about = f"{seeds}; ± is a 95 % interval over them. Every method begins with the source's model, or without one."
    targets = dict.fromkeys(row.target for row in rows)
    notes = [
        f"{target}, {line}" for target in targets for line in _sentences([row for row in rows if row.target == target])
    ]
    return markdown_page(f"From {rows[0].source} to other targets", about, tables(rows), notes)


def tables(rows: Sequence[TransferRow]) -> Iterator[NamedTable]:
    """Title, head and cells of each target's table."""
    head = ["method", *FIGURES.values(), "CPU s", "trained"]
    for target in dict.fromkeys(row.target for row in rows):
        of = {method: [row for row in rows if (row.target, row.method) == (target, method)] for method in METHODS}
        yield target, head, [_cells(of_method) for of_method in of.values() if of_method]


def _cells(rows: Sequence[TransferRow]) -> list[str]:
    figures = [interval_cell(interval([getattr(row, figure) for row in rows])) for figure in FIGURES]
    cost = sum(row.cpu_s for row in rows) / len(rows)
    return [rows[0].method, *figures, f"{cost:.1f}", f"{max(row.trained for row in rows):,}"]


def _sentences(rows: Sequence[TransferRow]) -> list[str]:
    """Per reference the methods that differ from it beyond the interval, paired by seed."""
    return [
        f"{FIGURES[figure]}: {_sentence(rows, figure, ZERO_SHOT)}; {_sentence(rows, figure, SCRATCH)}"
        for figure in ("request_auc", "log_loss", "hit")
    ]


def _sentence(rows: Sequence[TransferRow], figure: str, against: str) -> str:
    sign = -1 if figure == "log_loss" else 1
    of = {(row.method, row.seed): float(getattr(row, figure)) for row in rows}
    better, worse = [], []
    for method in dict.fromkeys(row.method for row in rows):
        seeds = sorted(seed for name, seed in of if name == method)
        gain = interval([sign * (of[method, seed] - of[against, seed]) for seed in seeds if (against, seed) in of])
        if gain.low > 0:
            better.append(method)
        elif gain.high < 0:
            worse.append(method)
    return f"better than `{against}` {_list(better)}, worse {_list(worse)}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
