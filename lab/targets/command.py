"""The entry of `driftline transfer`: one source, pretrained once per seed, and every way to every target."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from lab.evaluate.plan import Plan, make_plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.prepare import pretrain_on
from lab.evaluate.work import limit_threads, text_vectors
from lab.streams.sources import log_source, shortened
from lab.targets.parts import parts_of
from lab.targets.scoring import TargetTrial, TransferRow
from lab.targets.tables import markdown
from lab.targets.task import TransferTask, open_task
from lab.targets.ways import SourceModel, tried
from lab.transfer.origin import ensure_comparable
from model.encoding.features import ItemFeatures, UserFeatures
from model.whole_files import write_whole
from streaming.config import Config

SEEDS = 3
_UNFIT = {
    "factory": "the layers of a backbone of your own are not known here",
    "user_encoder": "a catalogue is ranked without histories here",
    "query_aspects": "a whole catalogue is ranked without a query",
    "tasks": "the ways are compared by clicks",
}


def run_transfer(
    config: Config,
    *,
    source: str,
    targets: Sequence[str],
    log: Path | None = None,
    mapping: str | None = None,
    seeds: int = SEEDS,
    quick: bool = False,
    out: Path,
    console: Console | None = None,
) -> list[TransferRow]:
    """Tries every way and writes `transfer.json` and `.md` to `out`, anew after each target.

    Raises TransferRefused, OutFolderError, StreamError or DataUnavailableError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    ensure_comparable(config.backbone, _UNFIT)
    first, others = parts_of(source, targets, log_source(log, mapping) if log or mapping else None)
    if quick:
        first, *others = [replace(part, stream=shortened(part.stream)) for part in (first, *others)]
    ensure_writable(out)
    limit_threads()
    plan = make_plan([], ("frozen",), 1, out, config.cache_dir, quick=quick, kernel=config.kernel,
                     learner=config.learner, live=config.live, backbone=config.backbone)  # fmt: skip
    rows: list[TransferRow] = []
    for seed in range(seeds):
        task = open_task(first, others, seed, plan.cache_dir, config.backbone.item_aspects)
        origin = _pretrained(plan, task, seed)
        console.print(f"seed {seed}: {task.source.name} is pretrained", highlight=False)
        for target in task.targets:
            for row in tried(origin, TargetTrial.of(task, target, seed)):
                rows.append(row)
                console.print(f"{row.target}, seed {seed}: {row.way}, {row.cpu_s:.1f} s", highlight=False)
            write_whole(out / "transfer.json", json.dumps([_plain(one) for one in rows], indent=1) + "\n")
            write_whole(out / "transfer.md", markdown(rows))
    console.print(markdown(rows), highlight=False, markup=False, soft_wrap=True)
    console.print(f"{out / 'transfer.md'} ({time.monotonic() - begun:.0f} s)", highlight=False, soft_wrap=True)
    return rows


def _pretrained(plan: Plan, task: TransferTask, seed: int) -> SourceModel:
    texts, catalogue = partial(text_vectors, plan), task.source.catalogue
    vectors = texts([item.text for item in catalogue.items])
    return SourceModel(
        plan, task.source, seed, pretrain_on(task.source, plan.config, plan.kernel, texts, seed),
        [UserFeatures(user.user_id, user.fields) for user in catalogue.users],
        [ItemFeatures(i.item_id, i.fields, vector) for i, vector in zip(catalogue.items, vectors, strict=True)],
    )  # fmt: skip


def _plain(row: TransferRow) -> dict[str, object]:
    """What is not known is null."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(row).items()
    }
