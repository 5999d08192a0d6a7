"""The entry of `driftline evaluate --user-encoders`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import get_args

from rich.console import Console

from lab.encoders.rows import EncoderReport, report_of
from lab.encoders.tables import delay_tables, markdown, sentences, tables
from lab.encoders.trial import CLUE, NONE, EncoderTrial, run_encoder_trial, with_encoder
from lab.evaluate.command import warm_up
from lab.evaluate.named_tables import print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import KERNEL, Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.trials import run_trials
from lab.streams.logged.movielens_stream import MOVIELENS, MOVIELENS_SESSIONS
from lab.streams.sources import NamedStreams, Source, choose, movielens_source
from model.config import BackboneConfig
from model.near_names import did_you_mean
from streaming.config import Config

SEEDS, QUICK_SEEDS = 3, 2
SCRIPTS = ("abrupt", "no-drift")
"""Played where no stream is named, beside MovieLens in both ways; their first half is the same."""
KINDS: tuple[str, ...] = get_args(BackboneConfig.model_fields["user_encoder"].annotation)
ENCODERS = (*KINDS, f"sasrec{CLUE}")
"""What is compared where nothing is named; any other kind but none can be named with `CLUE` too."""
ON_SCRIPTS = (NONE, "pool", "sasrec")
"""A script's users have a taste and no order in what they click: one encoder that reads the order shows that."""
TUNED = (NONE, "sasrec")
DELAYS = (0.0, 1_800.0)
"""Values of `backbone.history_delay_s` that are tried."""


class NoEncodersError(ValueError):
    """A backbone that encoders cannot be put into, such as one's own, or no such encoder; the message names the key."""


def run_encoders(
    config: Config, order: ComparisonOptions, *, models: Sequence[str] | None = None, console: Console | None = None
) -> list[EncoderReport]:
    """Runs what is missing, writes `user-encoders.json` and `.md` and shows the tables.

    `models` are the encoders that are compared with none on every stream, instead of those that are the default there.
    With `order.tune`, a report for each of `DELAYS`, printed and not written. Raises NoEncodersError, OutFolderError,
    StreamError, DataUnavailableError or EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    named = _named(models)
    _ensure_fits(config.backbone, named or ENCODERS)
    ensure_writable(order.out)
    plan = order.plan(config, _sources(order), (KERNEL,), order.seeds_or(SEEDS, quick=QUICK_SEEDS))
    warm_up(plan, console)
    delays = DELAYS if order.tune else (config.backbone.history_delay_s,)
    named = TUNED if order.tune and not named else named
    reports = [report_of(execute(plan, delay, console, order.processes, named), delay) for delay in delays]
    if order.tune:
        show_tables(delay_tables(reports), console)
        return reports
    write_report(order.out, "user-encoders", reports[0].to_json(), markdown(reports[0]))
    show_tables(tables(reports[0]), console)
    for sentence in sentences(reports[0]):
        console.print(sentence, highlight=False)
    print_location(order.out / "user-encoders.md", time.monotonic() - begun, console)
    return reports


def _named(models: Sequence[str] | None) -> tuple[str, ...]:
    """The encoders of these names, none before them; empty if nothing is named. Raises NoEncodersError."""
    known = (*KINDS, *(f"{kind}{CLUE}" for kind in KINDS if kind != NONE))
    for name in models or ():
        if name not in known:
            raise NoEncodersError(f"no user encoder {name!r}: there are {', '.join(known)}{did_you_mean(name, known)}")
    return tuple(dict.fromkeys((NONE, *models))) if models else ()


def _ensure_fits(backbone: BackboneConfig, encoders: Sequence[str]) -> None:
    if backbone.factory:
        raise NoEncodersError(
            f"--user-encoders compares those of the foundation model, but backbone.factory names {backbone.factory}: "
            "leave out one"
        )
    try:
        for encoder in encoders:
            with_encoder(backbone, encoder, 0.0)
    except ValueError as error:
        raise NoEncodersError(f"--user-encoders: {error}") from None


def _sources(order: ComparisonOptions) -> list[Source]:
    """The named streams, or a default choice that differs in how much a history can help."""
    if order.streams or order.quick:
        return choose(order.streams, quick=order.quick)
    scripts = choose(NamedStreams(suite="scripted"), quick=False)
    return [
        *map(movielens_source, (MOVIELENS, MOVIELENS_SESSIONS)),
        *(source for source in scripts if source.name in SCRIPTS),
    ]


def execute(
    plan: Plan, delay_s: float, console: Console, processes: int, named: Sequence[str] = ()
) -> list[EncoderTrial]:
    """Every encoder on every stream and seed, in the order of streams, encoders and seeds; `named` ones if any are."""
    encoders = tuple(named or ENCODERS)
    tasks = [
        (source, seed, encoder, delay_s)
        for encoder in encoders
        for seed in plan.seeds
        for source in plan.sources
        if named or source.script is None or encoder in ON_SCRIPTS
    ]
    trials = run_trials(
        plan, run_encoder_trial, tasks, processes, console, title=f"user encoders, history_delay_s {delay_s:g}",
        note=lambda trial: f": {trial.encoder}",
    )  # fmt: skip
    streams = [source.name for source in plan.sources]
    return sorted(trials, key=lambda trial: (streams.index(trial.stream), encoders.index(trial.encoder), trial.seed))
