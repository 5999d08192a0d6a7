"""The report as a table that a person reads."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lab.verdict_bands import QUIET
from local.report.drift import label
from local.report.figures import Arm, RunReport
from model.drift.verdict import VerdictKind


def report_table(report: RunReport) -> RenderableType:
    """The two arms side by side, then what the run did."""
    parts: list[RenderableType] = [_arms(report), Text("")]
    if report.drift_spans:
        parts += [_drift(report), Text("")]
    if any(span.kind not in QUIET for span in report.run.verdicts):
        parts += [_verdicts(report), Text("")]
    return Group(*parts, _run(report))


def _arms(report: RunReport) -> Table:
    table = Table(title="Every item was scored before anything learned from it", title_justify="left")
    table.add_column("")
    for name in ("frozen", "live", "difference"):
        table.add_column(name, justify="right")
    frozen, live = report.frozen, report.live
    within = f"AUC within requests ({report.lists:,} with both labels)"
    table.add_row(within, *_pair(frozen.request_auc, live.request_auc, higher_is_better=True))
    for index, arms in enumerate(zip(frozen.request_auc_quarters, live.request_auc_quarters, strict=True), 1):
        table.add_row(f"  quarter {index} of the stream", *_pair(*arms, higher_is_better=True))
    for name, measure in (("NDCG@5 of a request", "ndcg_5"), ("NDCG@10 of a request", "ndcg_10"), ("AUC", "auc")):
        table.add_row(name, *_pair(getattr(frozen, measure), getattr(live, measure), higher_is_better=True))
    table.add_row("log loss (lower is better)", *_pair(frozen.log_loss, live.log_loss, higher_is_better=False))
    table.add_row("calibration (1 is best)", *_calibration(frozen, live))
    if (conversions := report.conversions) is not None:
        within = f"CTCVR-AUC within requests ({conversions.lists:,} with a conversion)"
        for name, measure in ((within, "request_auc_ctcvr"), ("CTCVR-AUC", "auc_ctcvr")):
            frozen_arm, live_arm, by_clicks = (
                getattr(arm, measure) for arm in (conversions.frozen, conversions.live, conversions.by_clicks)
            )
            table.add_row(name, *_pair(frozen_arm, live_arm, higher_is_better=True))
            table.add_row("  by its clicks, with the frozen CVR", *_pair(frozen_arm, by_clicks, higher_is_better=True))
        losses = conversions.frozen.log_loss_cvr, conversions.live.log_loss_cvr
        table.add_row("log loss of CVR among clicks (lower is better)", *_pair(*losses, higher_is_better=False))
    return table


def _pair(frozen: float, live: float, *, higher_is_better: bool) -> tuple[str, str, Text]:
    gain = live - frozen
    better = gain > 0 if higher_is_better else gain < 0
    style = "dim" if not math.isfinite(gain) or gain == 0 else "green" if better else "red"
    return _number(frozen), _number(live), Text(_number(gain, signed=True), style=style)


def _calibration(frozen: Arm, live: Arm) -> tuple[str, str, Text]:
    closer = abs(frozen.calibration - 1) - abs(live.calibration - 1)
    style = "dim" if not math.isfinite(closer) else "green" if closer >= 0 else "red"
    gap = live.calibration - frozen.calibration
    return _number(frozen.calibration), _number(live.calibration), Text(_number(gap, signed=True), style=style)


def _drift(report: RunReport) -> Table:
    table = Table(title="While announced drift was at work", title_justify="left")
    table.add_column("")
    for name in ("items", "frozen", "live", "difference"):
        table.add_column(name, justify="right")
    for span, figures in zip(report.run.drift, report.drift_spans, strict=True):
        table.add_row(Text(label(span)), f"{figures['items_served']:,}")
        for name, measure in (("AUC within requests", "request_auc"), ("AUC", "auc")):
            arms = _pair(figures[f"{measure}_frozen"], figures[f"{measure}_live"], higher_is_better=True)
            table.add_row(f"  {name}", "", *arms)
    return table


def _verdicts(report: RunReport) -> Table:
    """Verdicts of the domains that had any other than quiet ones."""
    table = Table(title="What the drift monitor said", title_justify="left")
    for name, justify in (("after items", "right"), ("domain", "left"), ("verdict", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    loud = {(span.group, span.stratum) for span in report.run.verdicts if span.kind not in QUIET}
    for span, figures in zip(report.run.verdicts, report.verdicts, strict=True):
        if (span.group, span.stratum) in loud and span.kind is not VerdictKind.TOO_LITTLE:
            table.add_row(f"{figures['first_item']:,}", Text(span.stratum), Text(span.words))
    return table


def _run(report: RunReport) -> Table:
    run = report.run
    table = Table(show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("requests answered, items served", f"{report.requests:,}, {report.items_served:,}")
    missing = report.items_served - run.examples_learned
    table.add_row("examples learned", _alarm(run.examples_learned, f"{missing:,} missing", alarm=missing > 0))
    table.add_row("examples per second, end to end", _number(report.examples_per_second, digits=0))
    table.add_row("kernels published, taken by the scorer", f"{run.kernels_published:,}, {len(run.swaps):,}")
    table.add_row(
        "freshness p50, p99 (behaviour to kernel in use)",
        f"{_number(report.freshness_s(0.5), digits=2)} s, {_number(report.freshness_s(0.99), digits=2)} s",
    )
    table.add_row(
        "scoring p50, p99 (seen by the client)",
        f"{_number(report.score_ms(0.5), digits=1)} ms, {_number(report.score_ms(0.99), digits=1)} ms",
    )
    table.add_row("requests failed", _alarm(run.requests_failed))
    table.add_row("impressions missing in the log", _alarm(run.impressions_missing))
    for description, counts in (
        ("records the join could not use", run.join_dropped),
        ("dead letters", run.dead_letters),
    ):
        table.add_row(description, _alarm(sum(counts.values()), _reasons(counts)))
    if run.usage:
        memory = sum(used.memory_bytes for used in run.usage.values())
        table.add_row(f"memory ({', '.join(run.usage)})", f"{memory / 1e9:.2f} GB")
    table.add_row("backbone parameters", _backbone(unchanged=run.backbone_unchanged))
    table.add_row("seconds in all", _number(run.seconds_total, digits=1))
    return table


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))


def _alarm(count: int, detail: str = "", *, alarm: bool | None = None) -> Text:
    red = count > 0 if alarm is None else alarm
    return Text(f"{count:,} ({detail})" if red and detail else f"{count:,}", style="red" if red else "")


def _backbone(*, unchanged: bool) -> Text:
    return Text("bit-identical", style="green") if unchanged else Text("CHANGED", style="bold red")


def _number(value: float, *, digits: int = 4, signed: bool = False) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:{'+' if signed else ''},.{digits}f}"
