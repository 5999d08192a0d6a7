"""`driftline evaluate`: adapters compared, and the other comparisons that one option turns it into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.context import settings
from driftline.options import (
    BaseName,
    Cluster,
    Conversions,
    Detectors,
    LogFile,
    MappingName,
    Models,
    NewScene,
    Queries,
    ReportFolder,
    ScriptName,
    SuiteName,
    TextModels,
    UserEncoders,
)
from streaming.config import Config

if TYPE_CHECKING:
    from lab.evaluate.options import ComparisonOptions

app = typer.Typer()


@app.command(rich_help_panel="Demo and evaluation")
def evaluate(
    context: typer.Context,
    suite: SuiteName = None,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    adapters: Annotated[str | None, typer.Option(help="Adapters by name, with commas; or ablations, or all.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds.", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A short look: fewer requests and seeds.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Choose on streams of other seeds.")] = False,
    detectors: Detectors = False,
    text_models: TextModels = False,
    models: Models = None,
    user_encoders: UserEncoders = False,
    new_scene: NewScene = False,
    conversions: Conversions = False,
    queries: Queries = False,
    cluster: Cluster = None,
    base: BaseName = None,
    out: ReportFolder = Path("runs/evaluate"),
) -> None:
    """Compare ways to adapt on drifting streams, test-then-train, and report what helps."""
    named = {"suite": suite, "script": None if script is None else Path(script), "log": log, "mapping": mapping}
    asked = {"seeds": seeds, "quick": quick, "tune": tune}
    given: dict[str, Any] = {
        **named, **asked, "adapters": _names(adapters), "detectors": detectors, "text_models": text_models,
        "models": _names(models), "user_encoders": user_encoders, "new_scene": new_scene, "conversions": conversions,
        "queries": queries, "cluster": cluster, "base": base,
    }  # fmt: skip
    comparison = next((candidate for candidate in _COMPARISONS if given[candidate.option]), _ADAPTERS)
    comparison.check(given)
    options = {name: given[name] for name in comparison.options if name not in {*named, *asked}}
    comparison.run(settings(context), _order(out, named, asked), options)


@app.command(rich_help_panel="Demo and evaluation")
def transfer(
    context: typer.Context,
    source: Annotated[str, typer.Option(help="What is pretrained on: STREAM or STREAM:FIELD=VALUE.", metavar="PART")],
    targets: Annotated[
        str,
        typer.Option(help="The same with commas; FIELD=VALUE alone is a part of the source's stream.", metavar="PARTS"),
    ],
    log: LogFile = None,
    mapping: MappingName = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A short look: fewer passes, shorter scripts.")] = False,
    out: ReportFolder = Path("runs/transfer"),
) -> None:
    """Pretrain once on a source, and try every way to carry it over to each target.

    Parts are those of a script, of MovieLens 100K or of a log: `--source movielens-100k --targets
    genres=Horror,region=zip9,no-drift`.
    """
    from lab.transfer.command import run_transfer

    order = _order(out, {"log": log, "mapping": mapping}, {"seeds": seeds, "quick": quick})
    run_transfer(settings(context), order, source=source, targets=_names(targets) or [])


def _order(out: Path, named: Mapping[str, Any], asked: Mapping[str, Any]) -> ComparisonOptions:
    """The order of a comparison: the named streams and the common options."""
    from lab.evaluate.options import ComparisonOptions
    from lab.streams.sources import NamedStreams

    return ComparisonOptions(out, NamedStreams(**named), **asked)


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",")] if text else None


@dataclass(frozen=True)
class Comparison:
    """One comparison that an option of `driftline evaluate` selects."""

    option: str
    """The option that selects it; empty for the default comparison."""
    options: tuple[str, ...]
    """Options that it accepts."""
    run: Callable[[Config, ComparisonOptions, Mapping[str, Any]], None]
    """Gets the order, and the values of those of `options` that no order holds."""
    against: tuple[str, ...] = ()
    """Those of `options` that exclude `tune`, which chooses its own seeds."""

    def check(self, given: Mapping[str, Any]) -> None:
        """Raises BadParameter for an option that does not go with this one."""
        if others := [name for name, value in given.items() if value and name not in {self.option, *self.options}]:
            option = _written(self.option) if self.option else "a comparison of adapters"
            homes = [_written(comparison.option) for comparison in _COMPARISONS if others[0] in comparison.options]
            homes += ["none of these"] * (others[0] in _ADAPTERS.options)
            but = f", but with {' or '.join(homes)}" if homes else ""
            allowed = ", ".join(map(_written, self.options))
            raise typer.BadParameter(
                f"it does not go with {option}{but}; what does: {allowed} and --out", param_hint=_written(others[0])
            )
        if conflicting := [name for name in self.against if given[name] and given["tune"]]:
            raise typer.BadParameter(
                "it does not go with --tune, which decides it", param_hint=_written(conflicting[0])
            )


def _written(name: str) -> str:
    return "--" + name.replace("_", "-")


def _compare_adapters(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.evaluate.command import run_evaluate

    run_evaluate(config, order, **options)


def _tune_adapters(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.evaluate.tune import run_tune

    run_tune(config, order, **options)


def _try_detectors(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.detection.command import run_detectors

    run_detectors(config, order, **options)


def _compare_texts(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.text_models.command import run_text_models

    run_text_models(config, order, **options)


def _compare_user_encoders(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.encoders.command import run_encoders

    run_encoders(config, order, **options)


def _try_conversions(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.conversions.command import run_conversions

    run_conversions(config, order, **options)


def _compare_queries(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.queries.command import run_queries

    run_queries(config, order, **options)


def _try_new_scene(config: Config, order: ComparisonOptions, options: Mapping[str, Any]) -> None:
    from lab.fine_tuning.comparison import run_new_scene

    run_new_scene(config, order, **options)


_STREAMS = ("suite", "script", "log", "mapping")
_ADAPTERS = Comparison("", (*_STREAMS, "adapters", "seeds", "quick", "cluster", "base"), _compare_adapters)
_COMPARISONS = (
    Comparison("new_scene", ("seeds", "quick"), _try_new_scene),
    Comparison("queries", (*_STREAMS, "seeds", "quick"), _compare_queries),
    Comparison("text_models", (*_STREAMS, "models", "seeds", "quick"), _compare_texts),
    Comparison(
        "user_encoders", (*_STREAMS, "models", "seeds", "quick", "tune"), _compare_user_encoders, ("seeds", "quick")
    ),
    Comparison("conversions", (*_STREAMS, "seeds", "quick", "tune"), _try_conversions, ("seeds", "quick")),
    Comparison("detectors", (*_STREAMS, "seeds", "tune"), _try_detectors, ("seeds",)),
    Comparison("tune", (*_STREAMS, "adapters"), _tune_adapters),
)
"""Comparisons by precedence: the first selected one runs, and the others' options exclude it."""
