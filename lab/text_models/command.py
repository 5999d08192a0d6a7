"""The entry of `driftline evaluate --text-models`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lab.code_key import code_digest
from lab.evaluate.named_tables import print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.trials import run_trials
from lab.streams import StreamError
from lab.streams.sources import NamedStreams, Source, choose, movielens_source
from lab.text_models.encoders import TEXT_MODELS, TextModel, cost_of, text_encoder
from lab.text_models.table import TextModelReport, markdown, report_of, tables
from lab.text_models.trial import TRIAL, TextTrial, known_by, run_text_trial
from model.backbone.schema import BackboneRefused
from streaming.config import Config

SEEDS = 3
MODELS = (*TEXT_MODELS, "minilm-1:tuned-1", "minilm-6:tuned-1")
QUICK_MODELS = ("hashed-words", "minilm-1", "minilm-6", "minilm-1:tuned-1")
SCRIPT = Path("newcomers")
"""The script that is played beside MovieLens 100K where no stream is named: a quarter of its items comes new."""


def run_text_models(
    config: Config, order: ComparisonOptions, *, models: Sequence[str] | None = None, console: Console | None = None
) -> TextModelReport:
    """Pretrains what is missing, writes `text-models.json` and `.md` and shows the tables.

    `models` are names as `TextModel.of` reads them. Raises UnknownTextModelError, TextModelUnavailableError,
    BackboneRefused for settings that do not go with it, OutFolderError, StreamError, DataUnavailableError or
    EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    chosen = list(dict.fromkeys(models or (QUICK_MODELS if order.quick else MODELS)))
    _ensure_fits(config, tuned=any(TextModel.of(name).tuned for name in chosen))
    bases = list(dict.fromkeys(TextModel.of(name).base for name in chosen))
    ensure_writable(order.out)
    plan = order.plan(config, _sources(order), ("frozen",), order.seeds_or(SEEDS))
    plan = replace(plan, config=known_by(plan.config, "both"), code=code_digest(TRIAL))
    texts = _texts(plan)
    for name in bases:  # once, before the processes would all do it
        text_encoder(name, plan.cache_dir).encode(texts)
    trials = execute(plan, chosen, console, order.processes)
    report = report_of(trials, [cost_of(name, plan.cache_dir, texts) for name in bases])
    write_report(order.out, "text-models", report.to_json(), markdown(report))
    show_tables(tables(report), console)
    print_location(order.out / "text-models.md", time.monotonic() - begun, console)
    return report


def _ensure_fits(config: Config, *, tuned: bool) -> None:
    backbone = config.backbone
    if backbone.factory:
        raise BackboneRefused("--text-models trains the foundation model: leave backbone.factory empty")
    if backbone.user_encoder != "none":
        raise BackboneRefused("--text-models gives no live histories: set backbone.user_encoder to none")
    if tuned and backbone.query_aspects:
        raise BackboneRefused("--text-models tunes what encodes items, not queries: set backbone.query_aspects to []")


def _sources(order: ComparisonOptions) -> list[Source]:
    """The streams that are named, or MovieLens 100K and `SCRIPT`."""
    if order.streams:
        return choose(order.streams, quick=order.quick)
    return [movielens_source(), *choose(NamedStreams(script=SCRIPT), quick=order.quick)]


def _texts(plan: Plan) -> list[str]:
    """The texts of all streams' items. Raises StreamError for a stream without any."""
    texts: list[str] = []
    for source in plan.sources:
        item_texts = [item.text for item in source.open(plan.seeds[0], plan.cache_dir).catalogue.items]
        if not any(text.strip() for text in item_texts):
            raise StreamError(f"{source.name}: no item has a text, so there is nothing to encode: name another stream")
        texts += item_texts
    return texts


def execute(plan: Plan, models: Sequence[str], console: Console, processes: int) -> list[TextTrial]:
    """Every variant on every stream and seed; in the order of streams, then variants, then seeds."""
    variants = [("", "id"), *((model, by) for by in ("text", "both") for model in models)]
    tasks = [(source, seed, model, by) for seed in plan.seeds for source in plan.sources for model, by in variants]
    trials = run_trials(
        plan,
        run_text_trial,
        tasks,
        processes,
        console,
        title="backbones",
        note=lambda trial: f": {trial.model} {trial.by}",
    )
    streams = [source.name for source in plan.sources]
    trials.sort(key=lambda t: (streams.index(t.stream), variants.index((t.model, t.by)), t.seed))
    return [*trials, *(trial.anew for trial in trials if trial.anew is not None)]
