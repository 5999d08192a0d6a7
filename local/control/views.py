"""Output of `driftline kernel list|show|diff`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from model.kernel.kernel import Kernel
from model.kernel.record import unpack_kernel
from streaming.backbone import open_backbone
from streaming.config import Config
from streaming.control.history import PastKernel, read_history, version_of
from streaming.control.orders import read_decisions, read_order
from streaming.control.weights import feature_names, largest
from streaming.events.decisions import Decision, Order

_SHOWN = 12


def print_list(config: Config, group: str | None, last: int, console: Console) -> None:
    """The newest `last` kernels of a group, or of each; what is ordered, and what was decided about them."""
    for name in [group] if group is not None else [known.name for known in config.groups]:
        order, history = read_order(config, name), read_history(config, name)
        console.print(f"[bold]{name}[/]: {ordered(order)}", highlight=False, soft_wrap=True)
        decisions = read_decisions(config, name)
        if line := of_conversions(decisions):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(_table(history, order, decisions, last))


def of_conversions(decisions: Sequence[Decision]) -> str:
    """What the gate decided last about the conversion task, in words; empty if it never did."""
    found = [decision for decision in decisions if decision.detail.get("task") == "conversions"]
    if not found:
        return ""
    where = found[-1].detail.get("stratum")
    place = f" in {where}" if where else ""
    return f"  conversions: {found[-1].kind}{place}, {_time(found[-1].time)}: {found[-1].detail.get('reason', '')}"


def ordered(order: Order) -> str:
    """The current order of the operator, in words."""
    if order.frozen:
        served = "the frozen arm is served"
    elif order.pinned_version is not None:
        served = f"version {order.pinned_version} is pinned"
    else:
        served = "the newest published kernel is served"
    stopped = "" if order.learning else "; learning is stopped"
    reason = f" (ordered by {order.by}, {_time(order.time)}: {order.why or 'no reason given'})" if order.by else ""
    return served + stopped + reason


def print_kernel(config: Config, group: str, version: int, console: Console) -> None:
    """Prints one kernel: its metadata, and its largest weights by feature."""
    past = version_of(read_history(config, group), version)
    kernel = _opened(config, past)
    learned = kernel.weights - Kernel.identity(kernel.start).weights
    card = {
        "published": _time(past.published_at),
        "offset in the history": past.offset,
        "examples": f"{past.info.examples:,}",
        "newest event": _time(past.info.newest_event_time),
        "backbone": past.info.backbone_fingerprint,
        "bytes": len(past.record),
        "norm of what it learned": f"{float(learned.norm()):.4g}",
    }
    if kernel.conversion is not None:
        change = kernel.conversion.weights - Kernel.identity(kernel.conversion.start).weights
        card["... of conversions"] = f"{float(change.norm()):.4g}"
    console.print(f"[bold]{group}[/], version {version}", highlight=False)
    for name, value in card.items():
        console.print(f"  {name:<24} {value}", highlight=False, soft_wrap=True)
    table = Table("feature", "weight less the frozen model's", box=None)
    for _, name, weight in largest(feature_names(kernel.start), learned, _SHOWN):
        table.add_row(name, f"{weight:+.4f}")
    console.print(table)


def print_difference(config: Config, group: str, first: int, second: int, console: Console) -> None:
    """Prints the difference of two kernels, the largest changes by feature."""
    history = read_history(config, group)
    before, after = (_opened(config, version_of(history, version)) for version in (first, second))
    change = after.weights - before.weights
    norm = f"the change has norm {float(change.norm()):.4g}"
    console.print(f"[bold]{group}[/], version {first} to {second}: {norm}", highlight=False)
    table = Table("feature", str(first), str(second), "change", box=None)
    for index, name, value in largest(feature_names(before.start), change, _SHOWN):
        table.add_row(name, f"{before.weights[index]:+.4f}", f"{after.weights[index]:+.4f}", f"{value:+.4f}")
    console.print(table)


def _table(history: list[PastKernel], order: Order, decisions: list[Decision], last: int) -> Table:
    table = Table("version", "published", "examples", "newest event", "", box=None)
    notes: dict[int, list[str]] = {}
    for decision in decisions:
        if isinstance(version := decision.detail.get("version"), int):
            notes.setdefault(version, []).append(f"{decision.kind} by {decision.by}")
    for past in reversed(history[-last:]):
        info = past.info
        marks = ["pinned"] if info.version == order.pinned_version else ["newest"] if past is history[-1] else []
        text = "; ".join([*marks, *notes.get(info.version, [])[-3:]])
        examples, newest = f"{info.examples:,}", _time(info.newest_event_time)
        table.add_row(str(info.version), _time(past.published_at), examples, newest, text)
    return table


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _opened(config: Config, past: PastKernel) -> Kernel:
    opened = open_backbone(config)
    fingerprint = opened.backbone.fingerprint
    return unpack_kernel(past.record, fingerprint=fingerprint, start=opened.start, depends_on=opened.depends_on)[0]
