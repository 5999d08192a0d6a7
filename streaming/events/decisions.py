"""Decisions about kernels and operators' orders, as JSON, so that people can read the topics directly.

A `Decision` (topic `decisions`) records an action and its reason: a kernel held back, rolled back, pinned. Tools and
people read decisions, but no process depends on them. An `Order` (topic `control`, compacted, one key per group) states
what holds from now on; scorers follow the newest order of each group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Decision(msgspec.Struct, frozen=True):
    """One decision about a kernel group, with its evidence."""

    kind: str
    """A short stable name: `pin`, `rollback`, `hold`, ..."""
    group: str
    time: float
    """Seconds since the epoch: wall-clock time for an operator's decision, event time for a processor's."""
    by: str
    """Who decided: a person's name, or a part of the program."""
    detail: Mapping[str, Any] = {}
    """Evidence and reason, as JSON values."""


class Order(msgspec.Struct, frozen=True):
    """An operator's order for a group, valid until the next. `Order(group)` is the default: no intervention."""

    group: str
    pinned_version: int | None = None
    """The version that scorers serve; None follows the published kernels."""
    frozen: bool = False
    """Whether scorers serve the frozen arm, even if a version is pinned."""
    learning: bool = True
    """Whether the processor learns."""
    by: str = ""
    time: float = 0.0
    """Wall-clock time, seconds since the epoch."""
    why: str = ""
    kernel: bytes | None = None
    """The record of `pinned_version` from the log (base64 in JSON), so that a pin does not depend on the history."""


_decision_decoder = msgspec.json.Decoder(Decision)
_order_decoder = msgspec.json.Decoder(Order)


def encode_decision(decision: Decision) -> bytes:
    """A decision as JSON."""
    return msgspec.json.encode(decision)


def decode_decision(data: bytes) -> Decision:
    """One decision. Raises msgspec.DecodeError, or RecursionError if it is nested too deep."""
    return _decision_decoder.decode(data)


def encode_order(order: Order) -> bytes:
    """An order as JSON."""
    return msgspec.json.encode(order)


def decode_order(data: bytes) -> Order:
    """One order. Raises msgspec.DecodeError, or RecursionError if it is nested too deep."""
    return _order_decoder.decode(data)
