"""What is decided about kernels, and what operators order: JSON, so that a person can read the topics as they are.

A `Decision` (topic `decisions`) is what happened and why: a kernel held back, rolled back, pinned. Tools and people
read it, no process does. An `Order` (topic `control`, compacted, one key per group) is what shall hold from now on: the
newest one of a group is all that is ordered, and scorers follow it.
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
    """Of an operator wall-clock time, of a processor event time; seconds since the epoch."""
    by: str
    """Who decided: a person's name, or the part of the program."""
    detail: Mapping[str, Any] = {}
    """Evidence and reason: what JSON can hold."""


class Order(msgspec.Struct, frozen=True):
    """What an operator wants of a group until the next order. `Order(group)` wants nothing: all goes its own way."""

    group: str
    pinned_version: int | None = None
    """Scorers serve this version; None follows what is published."""
    frozen: bool = False
    """Scorers serve the frozen arm, whatever is pinned."""
    learning: bool = True
    """False: the processor learns nothing."""
    by: str = ""
    time: float = 0.0
    """Wall-clock time, seconds since the epoch."""
    why: str = ""
    kernel: bytes | None = None
    """The record of `pinned_version` as it stood in the log (base64 in JSON): a pin outlives the history."""


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
