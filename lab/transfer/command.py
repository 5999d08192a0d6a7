"""The entry of `driftline transfer`: one source, pretrained once per seed, and every method to every target."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path

from rich.console import Console

from lab.evaluate.named_tables import print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.pretrained import pretrain_on
from lab.evaluate.trials import kept_trials, trial_path
from lab.evaluate.work import limit_threads, text_vectors
from lab.fine_tuning.origin import ensure_comparable
from lab.streams.sources import log_source, shortened
from lab.transfer.methods import SourceModel, tried
from lab.transfer.parts import StreamPart, parts_of
from lab.transfer.scoring import TargetTrial, TransferRow
from lab.transfer.tables import markdown, tables
from lab.transfer.task import TransferTask, open_task
from model.encoding.profile import ItemFeatures, UserFeatures
from streaming.config import Config

SEEDS = 3
METHODS = "lab.transfer.methods"
"""The module whose code decides the rows, with all that it imports."""
_UNFIT = {
    "factory": "the layers of a backbone of your own are not known here",
    "query_aspects": "a whole catalogue is ranked without a query",
    "tasks": "the methods are compared by clicks",
}


def run_transfer(
    config: Config, order: ComparisonOptions, *, source: str, targets: Sequence[str], console: Console | None = None
) -> list[TransferRow]:
    """Tries every method and writes `transfer.json` and `.md` again after each target.

    The rows of a target and seed that an earlier call into the same folder has finished are not computed again.
    `source` and `targets` are parts of streams, of the log in `order.streams` if it names one. Raises TransferRefused,
    OutFolderError, StreamError or DataUnavailableError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    ensure_comparable(config.backbone, _UNFIT)
    log = log_source(order.streams.log, order.streams.mapping) if order.streams else None
    first, others = parts_of(source, targets, log)
    if order.quick:
        first, *others = [replace(part, stream=shortened(part.stream)) for part in (first, *others)]
    ensure_writable(order.out)
    limit_threads()
    plan = order.plan(config, [], ("frozen",), order.seeds_or(SEEDS))
    rows: list[TransferRow] = []
    for seed in plan.seeds:
        pretrained = cache(partial(_pretrained, plan, first, others, seed, console))
        for place, part in enumerate(others):
            path = _path(plan, [first, *others, part], seed)
            if path.exists():
                console.print(f"{part.name}, seed {seed}: kept from an earlier call", highlight=False)
            rows += kept_trials(path, TransferRow, partial(_tried, pretrained, place, console))
            write_report(order.out, "transfer", [asdict(target_row) for target_row in rows], markdown(rows))
    show_tables(tables(rows), console)
    print_location(order.out / "transfer.md", time.monotonic() - begun, console)
    return rows


def _path(plan: Plan, parts: Sequence[StreamPart], seed: int) -> Path:
    """Where the rows of the last of `parts` are kept; those before it decide what the source's examples are."""
    described = "|".join(f"{part.stream.describe()} {part.field}={part.value}" for part in parts)
    name = hashlib.sha256(described.encode()).hexdigest()[:16]
    return trial_path(plan, parts[0].stream, seed, METHODS, f"transfer-{name}")


_Prepared = tuple[TransferTask, SourceModel]


def _tried(pretrained: Callable[[], _Prepared], place: int, console: Console) -> list[TransferRow]:
    """Every method on the target at that place."""
    task, origin = pretrained()
    trial = TargetTrial.of(task, task.targets[place], origin.seed, origin.backbone.config.history)
    rows = []
    for row in tried(origin, trial):
        rows.append(row)
        console.print(f"{row.target}, seed {row.seed}: {row.method}, {row.cpu_s:.1f} s", highlight=False)
    return rows


def _pretrained(plan: Plan, first: StreamPart, others: Sequence[StreamPart], seed: int, console: Console) -> _Prepared:
    """The streams of a seed, divided, and the model of the source."""
    task = open_task(first, others, seed, plan.cache_dir, plan.config.backbone.item_aspects)
    texts, catalogue = partial(text_vectors, plan), task.source.catalogue
    vectors = texts([item.text for item in catalogue.items])
    origin = SourceModel(
        plan, task.source, seed, pretrain_on(task.source, plan.config, plan.kernel, texts, seed),
        [UserFeatures(user.user_id, user.fields) for user in catalogue.users],
        [ItemFeatures(i.item_id, i.fields, vector) for i, vector in zip(catalogue.items, vectors, strict=True)],
    )  # fmt: skip
    console.print(f"seed {seed}: {task.source.name} is pretrained", highlight=False)
    return task, origin
