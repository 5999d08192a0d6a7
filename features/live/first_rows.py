"""The live rows that a new kernel group starts with: counts of the pretraining log, stored with the backbone.

A group's state is these rows plus all changes in its log (docs/recovery.md). They must therefore never change while a
log exists, and the file names the domains that its rows were counted for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np

from features.live.history import HISTORY
from features.live.layout import Kind, LiveLayout, LiveRow
from features.live.tasks import click_kind
from model.backbone.schema import BackboneRefused
from model.whole_files import write_whole

FOLDER = "live-rows"
"""Name of the folder in a backbone's folder."""
FORMAT = 2
_CURE = "pretrain the backbone again with this configuration"


class FirstRowsRefused(BackboneRefused):
    """The first live rows of a group cannot be used; the message names the file and the cure."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    kind: Kind
    key: str
    updated_at: float
    values: bytes
    """float32, little-endian."""
    items: tuple[str, ...]


class _File(msgspec.Struct, frozen=True):
    format: int
    group: str
    domains: str
    """Digest of the domains whose examples were counted."""
    rows: list[_Row]


_decoder = msgspec.msgpack.Decoder(_File)


def write_first_rows(folder: Path, group: str, domains: Sequence[str], rows: Sequence[LiveRow]) -> None:
    """Writes a group's rows into a backbone's folder; `domains` are the keys of its domains. Raises OSError."""
    packed = [_Row(row.kind, row.key, row.updated_at, row.values.astype("<f4").tobytes(), row.items) for row in rows]
    path = _path(folder, group)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, msgspec.msgpack.encode(_File(FORMAT, group, _digest(domains), packed)))


def read_first_rows(folder: Path, group: str, domains: Sequence[str], layout: LiveLayout) -> list[LiveRow]:
    """Reads the rows that a group with these `domains` starts with. Raises FirstRowsRefused."""
    path = _path(folder, group)
    try:
        file = _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        raise FirstRowsRefused(
            f"{path} is missing: pretraining knew no kernel group {group!r}, or it was an older Driftline; {_CURE}"
        ) from None
    # RecursionError: MessagePack may be nested deeper than the decoder can go.
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FirstRowsRefused(f"{path} cannot be read ({error}): {_CURE}") from error
    if file.format != FORMAT or file.group != group:
        raise FirstRowsRefused(
            f"{path} holds group {file.group!r} in format {file.format}, not {group!r} in {FORMAT}: {_CURE}"
        )
    if file.domains != _digest(domains):
        raise FirstRowsRefused(
            f"{path} was counted for other domains than group {group!r} has now: take the change of `groups` and "
            f"`domains` back, or {_CURE}"
        )
    return [_unpacked(path, row, layout) for row in file.rows]


def _unpacked(path: Path, row: _Row, layout: LiveLayout) -> LiveRow:
    """Raises FirstRowsRefused if the row has another configuration's width or a number that is not finite."""
    history = row.kind == HISTORY
    width = 3 * len(row.items) if history else layout.width_of(click_kind(row.kind))
    if len(row.values) != 4 * width or len(row.items) > (layout.history.length if history else 0):
        raise FirstRowsRefused(
            f"{path}: the row of {row.kind} {row.key!r} has {len(row.values)} bytes where this configuration has "
            f"{4 * width}: {_CURE}"
        )
    values = np.frombuffer(row.values, dtype="<f4").astype(np.float32, copy=False)
    if not np.isfinite(row.updated_at) or not np.isfinite(values).all():
        raise FirstRowsRefused(f"{path}: the row of {row.kind} {row.key!r} holds a number that is not finite: {_CURE}")
    return LiveRow(row.kind, row.key, row.updated_at, values, row.items)


def _path(folder: Path, group: str) -> Path:
    return folder / FOLDER / f"{quote(group, safe='')}.msgpack"


def _digest(domains: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(domains)).encode()).hexdigest()
