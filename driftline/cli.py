"""`driftline`: one command line. Heavy imports stay inside the command that needs them."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from driftline import __version__
from driftline.keys import app as key_app
from driftline.options import (
    Archive,
    BackboneFolder,
    BaseName,
    Cluster,
    Detectors,
    Limit,
    LogFile,
    MappingName,
    Models,
    NewScene,
    Rate,
    ReportFolder,
    ScriptName,
    SuiteName,
    TextModels,
    UserEncoders,
)
from local.api_keys import ScorerKey
from local.broker.command import app as broker_app
from local.control.command import app as kernel_app
from local.dead_letters import app as dead_letters_app
from local.options import path_option
from local.state.groups import app as groups_app
from streaming.config import Config, load_config
from streaming.config.environment import foreign_names

if TYPE_CHECKING:
    from lab.streams.choice import StreamChoice

app = typer.Typer(
    name="driftline",
    help="Keeps a recommender current while it serves: a frozen backbone, a small kernel that learns from the stream."
    "\n\nNew here? `driftline demo` runs the whole loop on real data on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(broker_app, name="broker", rich_help_panel="Parts")
app.add_typer(dead_letters_app, name="dead-letters", rich_help_panel="Parts")
app.add_typer(kernel_app, name="kernel", rich_help_panel="Operate")
app.add_typer(groups_app, name="groups", rich_help_panel="Operate")
app.add_typer(key_app, name="key", rich_help_panel="Set-up")
errors = Console(stderr=True)

_OURS = ("driftline", "local", "lab", "streaming", "features", "model")


def _settings(context: typer.Context) -> Config:
    config = context.obj()
    assert isinstance(config, Config)
    return config


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"driftline {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Configuration file (TOML); DRIFTLINE_CONFIG names it too.",
            parser=path_option,
            metavar="FILE",
        ),
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Kafka bootstrap servers, instead of the configuration's.", metavar="HOST:PORT")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run keeps its files.", parser=path_option, metavar="FOLDER")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Note what the command line says of the configuration; the command reads it, so that `--help` needs none."""
    overrides: dict[str, object] = {}
    if bootstrap is not None:
        overrides["kafka"] = {"bootstrap": bootstrap}
    if run_dir is not None:
        overrides["run_dir"] = run_dir
    context.obj = functools.partial(load_config, config, **overrides)


def _log_to_stderr(config: Config) -> None:
    """Plain lines for services; colours where a person looks."""
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=errors, show_path=False)
        form = "%(message)s"
    else:
        handler, form = logging.StreamHandler(), "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=config.log_level, handlers=[handler], format=form)
    for name in foreign_names(os.environ, Config):
        logging.getLogger("driftline").debug("%s is a cluster's word for a service, no key of ours: passed over", name)


@app.command(rich_help_panel="Parts")
def ingest(context: typer.Context) -> None:
    """Consume outside events: check them, keep profiles in Feast, route traffic to its kernel group."""
    config = _settings(context)
    _log_to_stderr(config)
    from streaming.ingest import run_ingest

    raise typer.Exit(run_ingest(config))


@app.command(rich_help_panel="Parts")
def process(context: typer.Context) -> None:
    """Join impressions with feedback and fine-tune the kernel for ever."""
    config = _settings(context)
    _log_to_stderr(config)
    from streaming.processor.run import run_processor

    raise typer.Exit(run_processor(config))


@app.command(rich_help_panel="Parts")
def serve(context: typer.Context) -> None:
    """Serve scores over HTTP with the newest good kernel."""
    config = _settings(context)
    _log_to_stderr(config)
    from streaming.scorer import run_scorer

    raise typer.Exit(run_scorer(config))


@app.command(rich_help_panel="Set-up")
def setup(context: typer.Context) -> None:
    """Create the topics and the feature store's tables. Harmless to repeat."""
    config = _settings(context)
    _log_to_stderr(config)
    from features.store.feature_store import FeatureStore
    from streaming.clients import wait_for_broker
    from streaming.topics import ensure_topics

    log = logging.getLogger("driftline")
    wait_for_broker(config.kafka, log)
    created = ensure_topics(config)
    log.info("topics: %s", f"created {', '.join(created)}" if created else "all there")
    FeatureStore(config.features, config.run_dir).apply()
    log.info("feature store: ready (%s)", config.features.online_store)


def _stream(script: str | None, log: Path | None, mapping: str | None, archive: Path | None = None) -> StreamChoice:
    from lab.streams.choice import StreamChoice

    return StreamChoice(script, log, mapping, archive)


@app.command(rich_help_panel="Set-up")
def data(context: typer.Context, archive: Archive = None) -> None:
    """Bring MovieLens 100K into the cache, checked by its hash."""
    from lab.streams.choice import StreamChoice, open_recording

    open_recording(_settings(context), StreamChoice(archive=archive), errors)


@app.command(rich_help_panel="Set-up")
def pretrain(
    context: typer.Context,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
) -> None:
    """Train the backbone on the first half of the data (MovieLens 100K, a script or a log), once, and freeze it."""
    from lab.pretraining import run_pretrain

    raise typer.Exit(run_pretrain(_settings(context), _stream(script, log, mapping, archive)))


@app.command("fine-tune", rich_help_panel="Set-up")
def fine_tune(
    context: typer.Context,
    source: BackboneFolder,
    scene: Annotated[str, typer.Option(help="The new scene; the configuration declares it as the last.")],
    freeze: Annotated[
        str, typer.Option(help="Levels that stay as they are: L0 to L3 with commas, none, or all.", metavar="LEVELS")
    ] = "L0,L1",
    examples: Annotated[
        int | None, typer.Option(help="Learn from the scene's first so many examples alone.", min=2)
    ] = None,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
) -> None:
    """Make a backbone for one scene more out of an old one, from the scene's examples in a script or a log."""
    from lab.transfer.command import FineTuneOrder, levels_of, run_fine_tune

    order = FineTuneOrder(source, scene, levels_of(freeze), examples)
    raise typer.Exit(run_fine_tune(_settings(context), _stream(script, log, mapping), order))


@app.command("config", rich_help_panel="Set-up")
def show_config(
    context: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table instead of TOML.")] = False,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
) -> None:
    """Print every key with its meaning and present value: a configuration file to start from.

    With a stream, its domains and fields stand in it.
    """
    from lab.streams.fit import config_for
    from streaming.config_docs import as_markdown, as_toml

    if markdown:
        typer.echo(as_markdown())
        return
    typer.echo(as_toml(config_for(_settings(context), _stream(script, log, mapping), errors)))


@app.command("metrics", rich_help_panel="Set-up")
def show_metrics() -> None:
    """Print every metric with its type, unit, labels and meaning, as a Markdown page."""
    from streaming.monitoring.catalogue import as_markdown

    typer.echo(as_markdown())


@app.command("replay-log", rich_help_panel="Operate")
def replay_log(
    context: typer.Context,
    group: Annotated[str, typer.Option(help="Kernel group.")],
    into: Annotated[str, typer.Option(help="Name of the result: a folder in `run_dir`/replays.", metavar="NAME")],
    from_offset: Annotated[int | None, typer.Option(help="Begin at this offset of the group's traffic.", min=0)] = None,
    from_time: Annotated[float | None, typer.Option(help="Begin at this broker time, epoch seconds.")] = None,
    until_offset: Annotated[int | None, typer.Option(help="End before this offset.", min=0)] = None,
    until_time: Annotated[float | None, typer.Option(help="End before this broker time, epoch seconds.")] = None,
    skip_from: Annotated[int | None, typer.Option(help="Leave out what is from this offset on ..", min=0)] = None,
    skip_to: Annotated[int | None, typer.Option(help=".. and before this one.", min=0)] = None,
    start: Annotated[
        str | None, typer.Option(help="Begin with the state of an earlier replay.", metavar="NAME")
    ] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Make the result the group's state.")] = False,
    by: Annotated[str, typer.Option(help="Who does this, for the audit.")] = "operator",
) -> None:
    """Learn a group's traffic again and rebuild its kernel, bit for bit; leave a bad span out if one is named.

    Says whether the result equals what the log has. Processors must not run while it is published.
    """
    config = _settings(context)
    _log_to_stderr(config)
    from local.state.replay_log import Point, ReplayOrder, run_replay_log, skip_span

    folder = config.run_dir / "replays"
    order = ReplayOrder(
        group,
        folder / into / group,
        Point(from_offset, from_time),
        Point(until_offset, until_time),
        skip_span(skip_from, skip_to),
        None if start is None else folder / start / group,
        publish,
        by,
    )
    raise typer.Exit(run_replay_log(config, order, Console(soft_wrap=True)))


@app.command(rich_help_panel="Whole")
def replay(
    context: typer.Context,
    scorer: Annotated[str | None, typer.Option(help="Address of the scorer; default is the configured one.")] = None,
    key: ScorerKey = None,
    rate: Rate = 120.0,
    limit: Limit = None,
    profiles: Annotated[bool, typer.Option(help="Publish items and users first.")] = True,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
) -> None:
    """Play the second half of MovieLens 100K, a script or a log as live traffic against a running system."""
    config = _settings(context)
    _log_to_stderr(config)
    from lab.streams.pacing import Pace
    from local.replay.run import run_replay

    choice = _stream(script, log, mapping, archive)
    raise typer.Exit(
        run_replay(
            config, choice, scorer=scorer, key=key, pace=Pace(rate), limit=limit, profiles=profiles, console=errors
        )
    )


@app.command(rich_help_panel="Whole")
def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End what `--keep` left running.")] = False,
    rate: Rate = 120.0,
    limit: Limit = None,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
) -> None:
    """Run the whole loop on this machine: real data, real Kafka, real Feast, and a report of what happened.

    Plays MovieLens 100K, or a script or a log if one is named.
    """
    from local.demo.command import run_demo, stop_demo

    config = _settings(context)
    if stop:
        raise typer.Exit(stop_demo(config))
    bootstrap = context.find_root().params.get("bootstrap")
    choice = _stream(script, log, mapping, archive)
    raise typer.Exit(run_demo(config, keep=keep, limit=limit, rate=rate, bootstrap=bootstrap, stream=choice))


@app.command(rich_help_panel="Whole")
def evaluate(
    context: typer.Context,
    suite: SuiteName = None,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    adapters: Annotated[str | None, typer.Option(help="Adapters by name, with commas; or ablations, or all.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds.", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A short look: fewer requests and seeds.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Find the adapters' rates on streams of another seed.")] = False,
    detectors: Detectors = False,
    text_models: TextModels = False,
    models: Models = None,
    user_encoders: UserEncoders = False,
    new_scene: NewScene = False,
    cluster: Cluster = None,
    base: BaseName = None,
    out: ReportFolder = Path("runs/evaluate"),
) -> None:
    """Compare ways to adapt on drifting streams, test-then-train, and report what helps."""
    from lab.evaluate.command import run_evaluate

    config = _settings(context)
    names = [name.strip() for name in adapters.split(",")] if adapters else None
    drift = Path(script) if script is not None else None
    played: dict[str, Any] = {"suite": suite, "script": drift, "log": log, "mapping": mapping}
    if new_scene:
        kinds = text_models, models, user_encoders, detectors, tune
        _try_new_scene(config, seeds, out, quick=quick, unfit=any((*played.values(), *kinds, names, cluster, base)))
    if text_models or models is not None:
        unfit = any((names, tune, detectors, user_encoders, cluster, base)) or not text_models
        _compare_texts(config, played, models, seeds, out, quick=quick, unfit=unfit)
    if user_encoders:
        unfit = any((detectors, names, cluster, base)) or (tune and (quick or seeds is not None))
        _compare_user_encoders(config, played, seeds, out, quick=quick, tune=tune, unfit=unfit)
    if detectors:
        unfit = any((script, log, mapping, names, quick, cluster, base)) or (tune and seeds is not None)
        _try_detectors(config, suite, seeds, out, tune=tune, unfit=unfit)
    if tune:
        unfit = quick or any(one is not None for one in (seeds, cluster, base))
        _tune(config, played, names, out, unfit=unfit)
    run_evaluate(config, **played, adapters=names, seeds=seeds, quick=quick, out=out, cluster=cluster, base=base)


def _tune(config: Config, played: dict[str, Any], names: list[str] | None, out: Path, *, unfit: bool) -> NoReturn:
    """`evaluate --tune`; `unfit` says whether options were given that do not go with it."""
    from lab.evaluate.tune import run_tune, tuning_sources

    if unfit:
        others = "--quick, --seeds, --base and --cluster"
        raise typer.BadParameter(f"it has seeds of its own and runs here: leave out {others}", param_hint="--tune")
    run_tune(config, out, tuning_sources(**played), names)
    raise typer.Exit


def _compare_texts(
    config: Config,
    played: dict[str, Any],
    models: str | None,
    seeds: int | None,
    out: Path,
    *,
    quick: bool,
    unfit: bool,
) -> NoReturn:
    """`evaluate --text-models`; `unfit` says whether options were given that do not go with it."""
    from lab.text_models.command import run_text_models

    if unfit:
        only = "only the stream, --models, --seeds, --quick and --out go with it, and --models goes with it alone"
        raise typer.BadParameter(only, param_hint="--text-models")
    names = [name.strip() for name in models.split(",")] if models else None
    run_text_models(config, **played, models=names, seeds=seeds, quick=quick, out=out)
    raise typer.Exit


def _try_detectors(
    config: Config, suite: str | None, seeds: int | None, out: Path, *, tune: bool, unfit: bool
) -> NoReturn:
    """`evaluate --detectors`; `unfit` says whether options were given that do not go with it."""
    from lab.detection.command import run_detectors

    if unfit:
        raise typer.BadParameter("only --suite, --seeds or --tune, and --out go with it", param_hint="--detectors")
    run_detectors(config, suite=suite, seeds=seeds, out=out, tune=tune)
    raise typer.Exit


def _compare_user_encoders(
    config: Config, played: dict[str, Any], seeds: int | None, out: Path, *, quick: bool, tune: bool, unfit: bool
) -> NoReturn:
    """`evaluate --user-encoders`; `unfit` as above."""
    from lab.encoders.command import run_encoders

    if unfit:
        only = "only streams, --quick, --seeds or --tune, and --out go with it"
        raise typer.BadParameter(only, param_hint="--user-encoders")
    run_encoders(config, **played, seeds=seeds, quick=quick, tune=tune, out=out)
    raise typer.Exit


def _try_new_scene(config: Config, seeds: int | None, out: Path, *, quick: bool, unfit: bool) -> NoReturn:
    """`evaluate --new-scene`; `unfit` as above."""
    from lab.transfer.comparison import run_new_scene

    if unfit:
        raise typer.BadParameter("only --seeds, --quick and --out go with it", param_hint="--new-scene")
    run_new_scene(config, seeds=seeds, quick=quick, out=out)
    raise typer.Exit


@app.command(rich_help_panel="Operate")
def uplift(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(help="Kernel group; default is all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what the live arm is worth: its users against control users, by an interval that may be watched any time."""
    from local.control.uplift import print_uplift

    print_uplift(_settings(context), group, Console(), as_json=as_json)


@app.command(rich_help_panel="Whole")
def bases(
    context: typer.Context,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 3,
) -> None:
    """Compare the frozen base with what could be trained instead on the same half: counters, regressions, trees."""
    from lab.bases.command import run_bases

    typer.echo(run_bases(_settings(context), _stream(script, log, mapping, archive), seeds, errors))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. An error of our own is written for people: its message is shown, not a traceback."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in _OURS:
            raise
        errors.print("[bold red]error:[/] ", end="")
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
