"""The entry of `driftline transfer`: one source, pretrained once per seed, and every method to every target."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from rich.console import Console

from lab.evaluate.named_tables import print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.pretrained import pretrain_on
from lab.evaluate.work import limit_threads, text_vectors
from lab.fine_tuning.origin import ensure_comparable
from lab.streams.sources import log_source, shortened
from lab.transfer.methods import SourceModel, tried
from lab.transfer.parts import parts_of
from lab.transfer.scoring import TargetTrial, TransferRow
from lab.transfer.tables import markdown, tables
from lab.transfer.task import TransferTask, open_task
from model.encoding.profile import ItemFeatures, UserFeatures
from streaming.config import Config

SEEDS = 3
_UNFIT = {
    "factory": "the layers of a backbone of your own are not known here",
    "user_encoder": "a catalogue is ranked without histories here",
    "query_aspects": "a whole catalogue is ranked without a query",
    "tasks": "the methods are compared by clicks",
}


def run_transfer(
    config: Config, order: ComparisonOptions, *, source: str, targets: Sequence[str], console: Console | None = None
) -> list[TransferRow]:
    """Tries every method and writes `transfer.json` and `.md` again after each target.

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
        task = open_task(first, others, seed, plan.cache_dir, config.backbone.item_aspects)
        origin = _pretrained(plan, task, seed)
        console.print(f"seed {seed}: {task.source.name} is pretrained", highlight=False)
        for target in task.targets:
            for row in tried(origin, TargetTrial.of(task, target, seed)):
                rows.append(row)
                console.print(f"{row.target}, seed {seed}: {row.method}, {row.cpu_s:.1f} s", highlight=False)
            write_report(order.out, "transfer", [asdict(target_row) for target_row in rows], markdown(rows))
    show_tables(tables(rows), console)
    print_location(order.out / "transfer.md", time.monotonic() - begun, console)
    return rows


def _pretrained(plan: Plan, task: TransferTask, seed: int) -> SourceModel:
    texts, catalogue = partial(text_vectors, plan), task.source.catalogue
    vectors = texts([item.text for item in catalogue.items])
    return SourceModel(
        plan, task.source, seed, pretrain_on(task.source, plan.config, plan.kernel, texts, seed),
        [UserFeatures(user.user_id, user.fields) for user in catalogue.users],
        [ItemFeatures(i.item_id, i.fields, vector) for i, vector in zip(catalogue.items, vectors, strict=True)],
    )  # fmt: skip
