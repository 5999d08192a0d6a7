"""`driftline off-policy`: what other policies would have been worth, from the explored requests of a group's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import msgspec
from rich.console import Console
from rich.table import Table

from model.kernel.record import unpack_kernel
from model.off_policy import Estimate, OffPolicy, difference, estimate
from streaming.backbone import OpenedBackbone, open_backbone
from streaming.clients import quiet_client_logs
from streaming.config import Config
from streaming.control.history import read_history, version_of
from streaming.group.explored import ExploredRequests, PastPolicy
from streaming.group.traffic_reader import TrafficReader, Widths
from streaming.rebuild.replay import Span, TrafficSpan, offset_at, read_records, traffic_span

_HEADS = ("policy", "requests", "effective", "max weight", "IPS", "SNIPS", "DR", "DR less served")


class Judged(msgspec.Struct, frozen=True):
    """One policy, and the difference of its DR to what was served without draws, over the same requests."""

    policy: str
    estimates: OffPolicy
    less_served: Estimate | None


class OffPolicyReport(msgspec.Struct, frozen=True):
    """The estimates of a group from a span of its traffic."""

    group: str
    begin: int
    end: int
    explored: int
    open: int
    """Requests whose labels were not decided at the end of the span; those that explored are missing."""
    refused: Mapping[str, int]
    """Unusable records, by reason."""
    policies: Sequence[Judged]


def print_off_policy(
    config: Config,
    group: str,
    times: tuple[float | None, float | None],
    versions: Sequence[int],
    console: Console,
    *,
    as_json: bool,
) -> None:
    """Reads the traffic between two broker `times`, seconds, and prints a row for each policy.

    Raises named errors for an unknown group or version, and a topic that cannot be read.
    """
    quiet_client_logs()
    traffic = traffic_span(config, group)  # before the backbone, which takes seconds: the group may be misspelled
    opened = open_backbone(config)
    begin, end = (None if time is None else offset_at(config, traffic, time) for time in times)
    held = traffic.held
    span = Span(held.begin if begin is None else begin, held.end if end is None else end)
    kernels = _kernels(config, opened, group, versions)
    report = read_report(config, opened, group, replace(traffic, held=span), kernels)
    if as_json:
        console.print_json(msgspec.json.encode(report).decode())
    else:
        _print(report, console)


def read_report(
    config: Config, opened: OpenedBackbone, group: str, traffic: TrafficSpan, kernels: Mapping[str, PastPolicy]
) -> OffPolicyReport:
    """The estimates of what `traffic` holds. Raises TopicScanError."""
    reader = TrafficReader(group, opened.backbone.fingerprint, Widths.of(opened.backbone, opened.layout))
    explored = ExploredRequests(group, config.join, reader, kernels)
    for record in read_records(config, traffic.partition, traffic.held):
        explored.feed(*record)
    size = len(explored.logged().click), explored.open
    return OffPolicyReport(
        group, traffic.held.begin, traffic.held.end, *size, refused=dict(reader.refused), policies=judged(explored)
    )


def judged(explored: ExploredRequests) -> list[Judged]:
    """A row for each policy, over the requests by which it may be judged."""
    logged, targets = explored.logged(), explored.targets()
    served, _ = targets["served"]
    rows = []
    for name, (target, mask) in targets.items():
        outcomes, chosen = logged.select(mask), target.select(mask)
        less = None if name == "served" else difference(outcomes, chosen, served.select(mask))
        rows.append(Judged(name, estimate(outcomes, chosen), less))
    return rows


def _kernels(config: Config, opened: OpenedBackbone, group: str, versions: Sequence[int]) -> dict[str, PastPolicy]:
    """The published kernels of these versions. Raises ControlError, KernelRefused."""
    if not versions:
        return {}
    history = read_history(config, group)
    fingerprint = opened.backbone.fingerprint
    build = partial(unpack_kernel, fingerprint=fingerprint, start=opened.start, depends_on=opened.depends_on)
    found = {}
    for version in versions:
        kernel, info = build(version_of(history, version).record)
        found[f"kernel {version}"] = PastPolicy(kernel, info.newest_event_time)
    return found


def _print(report: OffPolicyReport, console: Console) -> None:
    say = partial(console.print, highlight=False, soft_wrap=True)
    where = f"offsets {report.begin} to {report.end}"
    waiting = f"; {report.open:,} requests wait for their clicks" if report.open else ""
    say(f"[bold]{report.group}[/]: {report.explored:,} explored requests in {where}{waiting}")
    if report.refused:
        say("  unusable records: " + ", ".join(f"{count:,} {reason}" for reason, count in report.refused.items()))
    if not report.explored:
        say("  nothing to estimate from: set `scorer.explore_share`, 0.05 say, for the scorers")
        return
    table = Table(*_HEADS, box=None)
    for row in report.policies:
        found = row.estimates
        size = (f"{found.requests:,}", f"{found.effective:,.0f}", f"{found.largest:.1f}")
        cells = [_cell(found.ips), _cell(found.snips), _cell(found.dr)]
        table.add_row(row.policy, *size, *cells, "" if row.less_served is None else _cell(row.less_served, "+"))
    say("  clicks per request at the first place, with 95 % intervals by user")
    console.print(table)
    for row in report.policies:
        if row.estimates.refused is not None:
            say(f"  {row.policy}: {row.estimates.refused}")


def _cell(found: Estimate | None, sign: str = "") -> str:
    return "-" if found is None else f"{found.value:{sign}.4f} ±{(found.high - found.low) / 2:.4f}"
