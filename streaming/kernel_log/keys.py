"""Keys and sizes of the records in `kernels` and `state`."""

from __future__ import annotations

from typing import cast, get_args

from features.live.layout import Kind
from streaming.clients import MAX_REQUEST_BYTES

MAX_RECORD_BYTES = MAX_REQUEST_BYTES
"""Largest kernel, snapshot or row."""
ORDER_BYTES = 2 * MAX_RECORD_BYTES
"""Largest order of an operator: it holds a pinned kernel in base64, four thirds of it."""
SLOTS = (0, 1)
"""A group keeps two snapshots, so that one is left where the other cannot be read (docs/decisions/0107)."""
_KERNEL = "/kernel"


def kernel_key(group: str) -> bytes:
    """Key of a group's kernel in the `kernels` topic."""
    return f"{group}{_KERNEL}".encode()


def kernel_group(key: bytes | None) -> str | None:
    """The group whose kernel stands under `key` of the `kernels` topic; None for keys of anything else."""
    name = "" if key is None else key.decode(errors="replace")
    return name.removesuffix(_KERNEL) if name.endswith(_KERNEL) else None


def learner_key(group: str, slot: int) -> bytes:
    """Key of one of a group's two learner snapshots in the `kernels` topic."""
    return f"{group}/learner/{slot}".encode()


def mark_key(group: str) -> bytes:
    """Key in the `state` topic of what says to which cut a group's rows belong."""
    return f"{group}/cut".encode()


def row_key(group: str, kind: Kind, key: str) -> bytes:
    """Key of a row of live features in the `state` topic."""
    return f"{group}/{kind}/{key}".encode()


def split_row_key(key: bytes) -> tuple[str, Kind, str]:
    """Group, kind and key of a row, the reverse of `row_key`. Raises ValueError."""
    group, kind, name = key.decode().split("/", 2)
    if kind not in get_args(Kind):
        raise ValueError(f"there are no live features of a {kind!r}")
    return group, cast(Kind, kind), name
