"""The report as data: what JSON, Markdown, terminal, plots and page are made of."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.bootstrap import FIGURES, bootstrap_interval, mean_drawn
from lab.evaluate.compare import (
    FROZEN,
    FULL,
    Runs,
    forgetting,
    leads_around_return,
    over_streams,
    paired,
    recovered,
    windows_to_half,
)
from lab.evaluate.conversions import ConversionReport, report_conversions
from lab.evaluate.information import SeedInformation
from lab.evaluate.measures import WINDOWS, mean_known
from lab.evaluate.named_tables import plain
from lab.evaluate.plan import ALL_ADAPTERS, KERNEL, Plan
from lab.evaluate.seed_results import RunCost, SeedResult
from lab.evaluate.slices import SliceRow, slice_rows
from lab.intervals import Interval, interval
from lab.streams import standard_suite
from lab.verdict_bands import Band


@dataclass(frozen=True)
class AdapterRow:
    """One adapter on one stream, over the seeds."""

    adapter: str
    request_auc: Interval
    """AUC within requests: what a ranker is for."""
    ndcg_5: Interval
    ndcg_10: Interval
    auc: Interval
    log_loss: float
    normalised_entropy: float
    calibration: float
    request_auc_lead: Interval
    """Above frozen, paired by seed, as the other leads."""
    ndcg_5_lead: Interval
    ndcg_10_lead: Interval
    lead: Interval
    """AUC above frozen, paired by seed."""
    windowed_lead: Interval
    """The lead in AUC within windows of time."""
    against_full: Interval
    """AUC above full fine-tuning, paired by seed."""
    against_kernel: Interval
    """AUC above `iak`, paired by seed; not-a-number where that did not run."""
    request_against_kernel: Interval
    """The difference from the kernel in AUC within requests."""
    recovered: float
    """Share of full fine-tuning's gain inside the drift spans."""
    examples_to_half: int | None
    forgetting: Interval
    around_return: tuple[float, ...]
    """AUC above frozen at each of `AROUND_RETURN`; empty where no old taste returns."""
    domains: dict[str, float]
    spans: dict[str, float]
    request_curve: tuple[float, ...]
    """AUC within requests in each of `WINDOWS` windows."""
    curve: tuple[float, ...]
    """AUC in the same windows."""
    log_loss_curve: tuple[float, ...]
    slices: dict[str, SliceRow] = field(default_factory=dict)
    """Results by how often pretraining saw item and user, for each of `lab.evaluate.slices.SLICES`."""
    users_against_kernel: dict[str, Interval] = field(default_factory=dict)
    """Each of `bootstrap.FIGURES` minus that of `iak`, with an interval over the log's users; empty for a script."""


@dataclass(frozen=True)
class CostRow:
    """Cost of an adapter, over all streams and seeds."""

    adapter: str
    parameters: int
    cpu_s_per_100k: float
    state_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class StreamReport:
    """Results of all adapters on one stream, over the seeds."""

    name: str
    examples: int
    lists: int
    """Requests that hold both labels: the ones whose order is judged."""
    click_rate: float
    oracle_auc: float
    """AUC of a scorer that knows every probability; not-a-number for a log."""
    oracle_request_auc: float
    """AUC within requests of the oracle."""
    spans: tuple[tuple[str, float, float], ...]
    """Name, begin and end of each drift as shares of the stream's examples."""
    rows: tuple[AdapterRow, ...]
    altered: bool = False
    """Whether it has the name of a script of the standard suite and is another one: a short look, or a user's own."""
    conversions: ConversionReport | None = None
    """Conversion results; None for a stream without conversions."""
    information: tuple[SeedInformation, ...] = ()
    """The kernel's information, by seed; empty if it did not run or measures no information."""
    verdicts: tuple[Band, ...] = ()
    """A drift monitor's verdicts on the first seed, by served example; empty if there were none to show."""


@dataclass(frozen=True)
class EvaluationReport:
    """The report of `driftline evaluate`: every table, with the commit and the plan that it was made by."""

    commit: str
    plan: dict[str, Any]
    streams: tuple[StreamReport, ...]
    costs: tuple[CostRow, ...]
    request_leads: dict[str, Interval]
    """AUC within requests above frozen, averaged over the streams."""
    leads: dict[str, Interval]
    """AUC above frozen, averaged over the streams."""
    script_request_leads: dict[str, Interval]
    """AUC within requests above frozen, averaged over the scripts of the standard suite; not-a-number without one."""
    script_leads: dict[str, Interval]
    """The same of AUC."""
    against_full: dict[str, Interval]
    """AUC above full fine-tuning, averaged over the streams; empty if that did not run."""
    against_kernel: dict[str, Interval]
    """AUC above `iak` of the kernels that differ from it in one part, averaged over the streams."""
    request_against_kernel: dict[str, Interval]
    """The same of AUC within requests."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; not-a-number becomes null."""
        data: dict[str, Any] = plain(asdict(self))
        return data


def make_report(plan: Plan, results: Mapping[tuple[str, int], SeedResult]) -> EvaluationReport:
    """Puts together the results of `measure_seed`, by name of the stream and seed."""
    seeds = {source.name: [results[source.name, seed] for seed in plan.seeds] for source in plan.sources}
    runs: dict[str, Runs] = {
        stream: {
            name: {seed: seed_result.measures[name] for seed, seed_result in zip(plan.seeds, of_stream, strict=True)}
            for name in plan.adapters
        }
        for stream, of_stream in seeds.items()
    }
    suite = standard_suite()
    scripts = {source.name: runs[source.name] for source in plan.sources if source.script == suite.get(source.name, "")}
    parts = [name for name in plan.adapters if ALL_ADAPTERS[name].part]
    return EvaluationReport(
        commit=_commit(),
        plan=plan.to_json(),
        streams=tuple(
            _stream(plan, name, of_stream, runs[name], altered=name in suite and name not in scripts)
            for name, of_stream in seeds.items()
        ),
        costs=tuple(_cost(name, [result.costs[name] for result in results.values()]) for name in plan.adapters),
        request_leads={name: over_streams(runs, name, FROZEN, "request_auc") for name in plan.adapters},
        leads={name: over_streams(runs, name, FROZEN) for name in plan.adapters},
        script_request_leads={name: over_streams(scripts, name, FROZEN, "request_auc") for name in plan.adapters},
        script_leads={name: over_streams(scripts, name, FROZEN) for name in plan.adapters},
        against_full={name: over_streams(runs, name, FULL) for name in plan.adapters if FULL in plan.adapters},
        against_kernel={name: over_streams(runs, name, KERNEL) for name in parts},
        request_against_kernel={name: over_streams(runs, name, KERNEL, "request_auc") for name in parts},
    )


def _stream(plan: Plan, name: str, seeds: list[SeedResult], runs: Runs, *, altered: bool) -> StreamReport:
    """Results of one stream; values that are no means are those of the first seed."""
    first = seeds[0]
    return StreamReport(
        name=name,
        examples=first.examples,
        lists=first.lists,
        click_rate=float(np.mean([result.click_rate for result in seeds])),
        oracle_auc=float(np.mean([result.oracle_auc for result in seeds])),
        oracle_request_auc=float(np.mean([result.oracle_request_auc for result in seeds])),
        spans=first.spans,
        rows=tuple(_row(adapter, runs, seeds) for adapter in plan.adapters),
        altered=altered,
        conversions=report_conversions([(result.seed, result.conversions) for result in seeds], plan.adapters),
        information=tuple(result.information for result in seeds if result.information is not None),
        verdicts=first.verdicts,
    )


def _row(name: str, runs: Runs, seeds: list[SeedResult]) -> AdapterRow:
    by_seed, first = list(runs[name].values()), seeds[0]
    half = None
    if first.spans and FULL in runs:
        start, end = int(first.spans[0][1] * WINDOWS), math.ceil(first.spans[0][2] * WINDOWS)
        windows = windows_to_half(runs, name, start, end)
        half = None if windows is None else windows * (first.examples // WINDOWS)
    return AdapterRow(
        adapter=name,
        request_auc=interval([m.request_auc for m in by_seed]),
        ndcg_5=interval([m.ndcg_5 for m in by_seed]),
        ndcg_10=interval([m.ndcg_10 for m in by_seed]),
        auc=interval([m.auc for m in by_seed]),
        log_loss=mean_known([m.log_loss for m in by_seed]),
        normalised_entropy=mean_known([m.normalised_entropy for m in by_seed]),
        calibration=mean_known([m.calibration for m in by_seed]),
        request_auc_lead=paired(runs, name, FROZEN, "request_auc"),
        ndcg_5_lead=paired(runs, name, FROZEN, "ndcg_5"),
        ndcg_10_lead=paired(runs, name, FROZEN, "ndcg_10"),
        lead=paired(runs, name, FROZEN),
        windowed_lead=paired(runs, name, FROZEN, "windowed_auc"),
        against_full=paired(runs, name, FULL),
        against_kernel=paired(runs, name, KERNEL),
        request_against_kernel=paired(runs, name, KERNEL, "request_auc"),
        recovered=recovered(runs, name) if FULL in runs else float("nan"),
        examples_to_half=half,
        forgetting=forgetting(runs, name),
        around_return=leads_around_return(runs, name),
        domains={key: mean_known([m.domains[key] for m in by_seed if key in m.domains]) for key in by_seed[0].domains},
        spans={key: mean_known([m.spans[key] for m in by_seed]) for key in by_seed[0].spans},
        request_curve=tuple(np.mean([m.request_curve for m in by_seed], axis=0).tolist()),
        curve=tuple(np.mean([m.curve for m in by_seed], axis=0).tolist()),
        log_loss_curve=tuple(np.mean([m.log_loss_curve for m in by_seed], axis=0).tolist()),
        slices=slice_rows([result.slices[name] for result in seeds]),
        users_against_kernel=_with_other_users(name, runs, seeds),
    )


def _with_other_users(name: str, runs: Runs, seeds: list[SeedResult]) -> dict[str, Interval]:
    """Differences of an adapter from the kernel, with bootstrap intervals over the log's users; empty for a script."""
    drawn: list[Mapping[str, NDArray[np.float64]]] = [result.drawn for result in seeds]
    if KERNEL not in runs or not drawn[0]:
        return {}
    apart = mean_drawn(drawn, name) - mean_drawn(drawn, KERNEL)
    means = [paired(runs, name, KERNEL, figure).mean for figure in FIGURES]
    return {figure: bootstrap_interval(mean, draws) for figure, mean, draws in zip(FIGURES, means, apart, strict=True)}


def _cost(name: str, runs: list[RunCost]) -> CostRow:
    examples = sum(run.examples for run in runs)
    return CostRow(
        adapter=name,
        parameters=round(mean_known([float(run.parameters) for run in runs])),
        cpu_s_per_100k=sum(run.cpu_s for run in runs) / examples * 1e5,
        state_bytes=round(mean_known([float(run.state_bytes) for run in runs])),
        peak_bytes=max(run.peak_bytes for run in runs),
    )


def _commit() -> str:
    """The commit of the code, with a plus if files differ from it; empty outside a git checkout."""
    root = Path(__file__).parents[2]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "model", "features", "lab"],
            cwd=root, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")
