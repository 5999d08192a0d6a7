"""The entry of `driftline evaluate --text-models`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lab.code_key import code_digest
from lab.evaluate.plan import Plan, make_plan
from lab.evaluate.pool import each, ensure_writable, workers
from lab.evaluate.tables import show_tables
from lab.progress import bars
from lab.streams import StreamError
from lab.streams.sources import Source, choose, movielens_source
from lab.text_models.encoders import TEXT_MODELS, cost_of, ensure_known, text_encoder
from lab.text_models.table import TextModelReport, markdown, report_of, tables
from lab.text_models.trial import TRIAL, TextTrial, known_by, try_text_model
from model.backbone.schema import BackboneRefused
from model.whole_files import write_whole
from streaming.config import Config

SEEDS = 3
QUICK_MODELS = ("hashed-words", "minilm-1", "minilm-6")
SCRIPT = Path("newcomers")
"""The script that is played beside MovieLens 100K where no stream is named: a quarter of its items comes new."""


def run_text_models(
    config: Config,
    *,
    suite: str | None = None,
    script: Path | None = None,
    log: Path | None = None,
    mapping: str | None = None,
    models: Sequence[str] | None = None,
    seeds: int | None = None,
    quick: bool = False,
    out: Path,
    processes: int | None = None,
    console: Console | None = None,
) -> TextModelReport:
    """Pretrains what is missing and writes `text-models.json` and `.md` to `out`.

    `models` are names of `TEXT_MODELS` or folders. Raises UnknownTextModelError, TextModelUnavailableError,
    BackboneRefused for settings that do not go with it, OutFolderError, StreamError, DataUnavailableError or
    EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    chosen = list(dict.fromkeys(models or (QUICK_MODELS if quick else TEXT_MODELS)))
    for name in chosen:
        ensure_known(name)
    _ensure_fits(config)
    ensure_writable(out)
    unnamed = suite is None and script is None and log is None and mapping is None
    sources = choose(suite, SCRIPT if unnamed else script, log, mapping, quick=quick)
    sources = [movielens_source(), *sources] if unnamed else sources
    plan = _plan(config, sources, seeds or SEEDS, out, quick=quick)
    texts = _texts(plan)
    for name in chosen:  # once, before the processes would all do it
        text_encoder(name, plan.cache_dir).encode(texts)
    tried = execute(plan, chosen, console, processes or os.cpu_count() or 1)
    report = report_of(tried, [cost_of(name, plan.cache_dir, texts) for name in chosen])
    write_whole(out / "text-models.json", json.dumps(report.to_json(), indent=1) + "\n")
    write_whole(out / "text-models.md", markdown(report))
    show_tables(tables(report), console)
    console.print(f"{out / 'text-models.md'} ({time.monotonic() - begun:.0f} s)", highlight=False, soft_wrap=True)
    return report


def _ensure_fits(config: Config) -> None:
    backbone = config.backbone
    if backbone.factory:
        raise BackboneRefused("--text-models trains the foundation model: leave backbone.factory empty")
    if backbone.user_encoder != "none":
        raise BackboneRefused("--text-models gives no live histories: set backbone.user_encoder to none")


def _plan(config: Config, sources: list[Source], seeds: int, out: Path, *, quick: bool) -> Plan:
    plan = make_plan(sources, ("frozen",), seeds, out, config.cache_dir, quick=quick, backbone=config.backbone)
    return replace(plan, config=known_by(plan.config, "both"), code=code_digest(TRIAL))


def _texts(plan: Plan) -> list[str]:
    """The texts of all streams' items. Raises StreamError for a stream without any."""
    texts: list[str] = []
    for source in plan.sources:
        own = [item.text for item in source.open(plan.seeds[0], plan.cache_dir).catalogue.items]
        if not any(text.strip() for text in own):
            raise StreamError(f"{source.name}: no item has a text, so there is nothing to encode: name another stream")
        texts += own
    return texts


def execute(plan: Plan, models: Sequence[str], console: Console, processes: int) -> list[TextTrial]:
    """Every variant on every stream and seed; in the order of streams, then variants, then seeds."""
    variants = [("", "id"), *((model, "text") for model in models), *((model, "both") for model in models)]
    tasks = [(source, seed, model, by) for seed in plan.seeds for source in plan.sources for model, by in variants]
    tried = []
    with workers(processes, None), bars(console) as progress:
        bar = progress.add_task("backbones", total=len(tasks), note=f"{len(variants)} variants")
        for one in each(plan, try_text_model, tasks):
            progress.update(bar, advance=1, note=f"{one.stream}, seed {one.seed}: {one.model} {one.by}")
            tried.append(one)
    streams = [source.name for source in plan.sources]
    return sorted(tried, key=lambda t: (streams.index(t.stream), variants.index((t.model, t.by)), t.seed))
