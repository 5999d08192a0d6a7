"""Keys of the records in `kernels` and `state`."""

from __future__ import annotations

from typing import cast, get_args

from features.live.layout import Kind

SLOTS = (0, 1)
"""A group keeps two snapshots, so that one remains if the other cannot be read (docs/decisions/0107)."""
CHECKPOINTS = 4
_KERNEL = "/kernel"


def kernel_key(group: str) -> bytes:
    """Key of a group's kernel in the `kernels` topic."""
    return f"{group}{_KERNEL}".encode()


def kernel_group(key: bytes | None) -> str | None:
    """The group whose kernel has this `key` in the `kernels` topic; None for other keys."""
    name = "" if key is None else key.decode(errors="replace")
    return name.removesuffix(_KERNEL) if name.endswith(_KERNEL) else None


def learner_key(group: str, slot: int) -> bytes:
    """Key of one of a group's two learner snapshots in the `kernels` topic."""
    return f"{group}/learner/{slot}".encode()


def good_key(group: str, number: int) -> bytes:
    """Key of a state to which a group's learner may return, in the `kernels` topic.

    The last few are kept, because a snapshot that a group falls back to refers to older ones than the newest does.
    """
    return f"{group}/good/{number % CHECKPOINTS}".encode()


def mark_key(group: str) -> bytes:
    """Key in the `state` topic of the mark that names the cut of a group's rows."""
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
