"""`driftline uplift`: what the live arm is worth, by the experiment with control users."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from model.uplift import UPLIFT_ARMS, Effect, UpliftLook
from streaming.config import Config
from streaming.control.history import partition_of
from streaming.control.orders import read_decisions

_VERDICTS = {
    "better": "the live arm is better",
    "worse": "the live arm is WORSE than the frozen model",
    "not yet": "not yet decided",
}


def print_uplift(config: Config, group: str | None, console: Console, *, as_json: bool) -> None:
    """The newest look of a group, or of each. Raises ControlError for an unknown group."""
    if group is not None:
        partition_of(config, group)
    groups = [group] if group is not None else [known.name for known in config.groups]
    looks = {name: _newest(config, name) for name in groups}
    if as_json:
        effects = {name: None if look is None else _as_dict(look) for name, look in looks.items()}
        console.print_json(json.dumps(effects))
        return
    for name, look in looks.items():
        _print(config, name, look, console)


def _newest(config: Config, group: str) -> UpliftLook | None:
    for decision in reversed(read_decisions(config, group)):
        if decision.kind == "uplift":
            try:
                return msgspec.convert(decision.detail, UpliftLook)
            except msgspec.ValidationError:
                continue
    return None


def _as_dict(look: UpliftLook) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(look)
    for effect, shown in zip(look.effects, fields["effects"], strict=True):
        shown["decided"] = effect.decided
    return fields


def _print(config: Config, group: str, look: UpliftLook | None, console: Console) -> None:
    if look is None:
        share = config.scorer.control_share
        why = (
            "too few control users have been seen so far"
            if share
            else "there are no control users: set `scorer.control_share`, 0.02 say, for scorers and processor"
        )
        console.print(f"[bold]{group}[/]: not yet decided, nothing to look at: {why}", highlight=False, soft_wrap=True)
        return
    users = ", ".join(f"{arm} {look.users[arm]:,} users, {look.requests[arm]:,} requests" for arm in UPLIFT_ARMS)
    console.print(f"[bold]{group}[/]: look {look.number + 1}; about {users}", highlight=False, soft_wrap=True)
    table = Table("", "live", "frozen", "difference", "95 % interval at all looks", "", box=None)
    for effect in look.effects:
        table.add_row(*_row(effect))
    console.print(table)


def _row(effect: Effect) -> tuple[str, ...]:
    difference = effect.live - effect.frozen
    relative = f" ({difference / effect.frozen:+.1%})" if effect.frozen else ""
    interval = "too few events" if effect.low is None else f"{effect.low:+.5f} to {effect.high:+.5f}"
    name = effect.ratio.replace("_", " ")
    rates = (f"{effect.live:.5f}", f"{effect.frozen:.5f}", f"{difference:+.5f}{relative}")
    return (name, *rates, interval, _VERDICTS[effect.decided])
