"""The entry of `driftline evaluate --user-encoders`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from rich.console import Console

from lab.encoders.rows import NONE, EncoderReport, report_of
from lab.encoders.tables import markdown, show, show_delays
from lab.encoders.trial import EncoderTrial, try_encoder
from lab.evaluate.command import warm_up
from lab.evaluate.plan import KERNEL, Plan, make_plan
from lab.evaluate.pool import each, ensure_writable, workers
from lab.progress import bars
from lab.streams.logged.movielens_stream import MOVIELENS, MOVIELENS_SESSIONS
from lab.streams.sources import Source, choose, movielens_source
from model.config import BackboneConfig
from model.whole_files import write_whole
from streaming.config import Config

SEEDS, QUICK_SEEDS, TUNING_SEEDS = 3, 2, (1_000, 1_001)
SCRIPTS = ("abrupt", "no-drift")
"""Played where no stream is named, beside MovieLens in both ways; their first half is the same."""
ENCODERS: tuple[str, ...] = get_args(BackboneConfig.model_fields["user_encoder"].annotation)
ON_SCRIPTS = (NONE, "pool", "sasrec")
"""A script's users have a taste and no order in what they click: one encoder that reads the order shows that."""
TUNED = (NONE, "sasrec")
DELAYS = (0.0, 1_800.0)
"""Values of `backbone.history_delay_s` that are tried."""


class NoEncodersError(ValueError):
    """A backbone that encoders cannot be put into, such as one's own; the message names the key."""


def run_encoders(
    config: Config,
    *,
    suite: str | None = None,
    script: Path | None = None,
    log: Path | None = None,
    mapping: str | None = None,
    seeds: int | None = None,
    quick: bool = False,
    tune: bool = False,
    out: Path,
    processes: int | None = None,
    console: Console | None = None,
) -> list[EncoderReport]:
    """Runs what is missing, writes `user-encoders.json` and `.md` to `out` and shows the tables.

    With `tune`, a report for each of `DELAYS` on the tuning seeds, printed and not written. Raises NoEncodersError,
    OutFolderError, StreamError, DataUnavailableError or EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    _ensure_fits(config.backbone)
    ensure_writable(out)
    count = range(seeds or (QUICK_SEEDS if quick else SEEDS))
    plan = replace(
        make_plan(
            _sources(suite, script, log, mapping, quick=quick), (KERNEL,), 1, out, config.cache_dir, quick=quick,
            kernel=config.kernel, learner=config.learner, live=config.live, backbone=config.backbone,
        ),
        seeds=TUNING_SEEDS if tune else tuple(count),
    )  # fmt: skip
    warm_up(plan, console)
    delays = DELAYS if tune else (config.backbone.history_delay_s,)
    reports = [report_of(execute(plan, delay, console, processes, tuned=tune), delay) for delay in delays]
    if tune:
        show_delays(reports, console)
        return reports
    write_whole(out / "user-encoders.json", json.dumps(reports[0].to_json(), indent=1) + "\n")
    write_whole(out / "user-encoders.md", markdown(reports[0]))
    show(reports[0], console)
    console.print(f"{out / 'user-encoders.md'} ({time.monotonic() - begun:.0f} s)", highlight=False, soft_wrap=True)
    return reports


def _ensure_fits(backbone: BackboneConfig) -> None:
    if backbone.factory:
        raise NoEncodersError(
            f"--user-encoders compares those of the foundation model, but backbone.factory names {backbone.factory}: "
            "leave out one"
        )
    try:
        for encoder in ENCODERS:
            _reading(backbone, encoder, 0.0)
    except ValueError as error:
        raise NoEncodersError(f"--user-encoders: {error}") from None


def _sources(
    suite: str | None, script: Path | None, log: Path | None, mapping: str | None, *, quick: bool
) -> list[Source]:
    """The streams that are named, or some that differ in what a history can tell."""
    if any((suite, script, log, mapping)) or quick:
        return choose(suite, script, log, mapping, quick=quick)
    scripts = choose("scripted", None, None, None, quick=False)
    return [*map(movielens_source, (MOVIELENS, MOVIELENS_SESSIONS)), *(one for one in scripts if one.name in SCRIPTS)]


def execute(
    plan: Plan, delay_s: float, console: Console, processes: int | None = None, *, tuned: bool = False
) -> list[EncoderTrial]:
    """Every encoder on every stream and seed, in the order of streams, encoders and seeds."""
    trials: list[EncoderTrial] = []
    with workers(processes or os.cpu_count() or 1, None), bars(console) as progress:
        total = sum(len(_encoders(one, tuned=tuned)) for one in plan.sources) * len(plan.seeds)
        task = progress.add_task("user encoders", total=total, note=f"history_delay_s {delay_s:g}")
        for encoder in ENCODERS:
            own = _with_encoder(plan, encoder, delay_s)
            tasks = [
                (one, seed) for seed in plan.seeds for one in plan.sources if encoder in _encoders(one, tuned=tuned)
            ]
            for trial in each(own, try_encoder, tasks):
                trials.append(trial)
                progress.update(task, advance=1, note=f"{trial.stream}, seed {trial.seed}: {encoder}")
    order = [one.name for one in plan.sources]
    return sorted(trials, key=lambda one: (order.index(one.stream), ENCODERS.index(one.encoder), one.seed))


def _encoders(source: Source, *, tuned: bool) -> Sequence[str]:
    if tuned:
        return TUNED
    return ON_SCRIPTS if source.script is not None else ENCODERS


def _with_encoder(plan: Plan, encoder: str, delay_s: float) -> Plan:
    """The plan for one encoder; `none` is the same whatever the delay."""
    backbone = _reading(plan.config.backbone, encoder, delay_s)
    return replace(plan, config=replace(plan.config, backbone=backbone), adapters=(KERNEL,))


def _reading(backbone: BackboneConfig, encoder: str, delay_s: float) -> BackboneConfig:
    """The backbone with a user encoder; without one there is nothing that `user_objective` could teach."""
    if encoder == NONE:
        return backbone.changed(user_encoder=NONE, user_objective="own")
    return backbone.changed(user_encoder=encoder, history_delay_s=delay_s)
