"""Published kernels as bytes. Reading checks everything before it builds a kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from reprlib import repr as shortened
from typing import Annotated, Any, Literal

import msgspec
from torch import Tensor

from model.container import ContainerError, check_shapes, pack, unpack
from model.kernel.compatibility import difference, differing, sections
from model.kernel.kernel import Kernel
from model.kernel.start import KernelStart

FORMAT = 3
"""Version of the record format; 3 holds a vector of weights learned in closed form."""

_WEIGHTS, _CONVERSION = "weights", "cvr.weights"
Reason = Literal[
    "size", "garbage", "format", "contents", "fingerprint", "configuration", "shapes", "wrong_group", "unknown_group",
    "wrong_partition", "deleted", "bad_order", "non_finite_scores", "saturated", "far_off", "collapsed",
]  # fmt: skip
"""Why a kernel is refused; docs/failures.md gives the cure for each reason."""


class KernelRefused(Exception):
    """A kernel cannot be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class KernelInfo:
    """Metadata of a published kernel."""

    group: str
    version: Annotated[int, msgspec.Meta(ge=0)]
    """0 is the identity; each published kernel has the next number."""
    backbone_fingerprint: str
    newest_event_time: float
    """Event time of the newest example that the kernel has learned from, seconds since the epoch."""
    examples: Annotated[int, msgspec.Meta(ge=0)]
    """Examples learned since the kernel was initialised."""


def pack_kernel(kernel: Kernel, info: KernelInfo, depends_on: Mapping[str, Any]) -> bytes:
    """A kernel with all its tasks as bytes, with its `dependencies`; equal kernels give equal bytes."""
    metadata = {"format": FORMAT, "kind": "kernel", **asdict(info), "depends_on": dict(depends_on)}
    return pack(_tensors(kernel), metadata)


def _tensors(kernel: Kernel) -> dict[str, Tensor]:
    """Tensors by name. A kernel of clicks alone has only `weights`, so that older records can still be read."""
    of_conversions = {} if kernel.conversion is None else {_CONVERSION: kernel.conversion.weights}
    return {_WEIGHTS: kernel.weights, **of_conversions}


def unpack_kernel(
    data: bytes,
    *,
    fingerprint: str,
    start: KernelStart,
    depends_on: Mapping[str, Any],
    max_bytes: int = 16 * 1024 * 1024,
) -> tuple[Kernel, KernelInfo]:
    """Builds a kernel, ready to serve, from its bytes. Raises KernelRefused; everything is checked first.

    `start` and `depends_on` are this process's own: a record made for other ones is refused, naming the difference.
    """
    if len(data) > max_bytes:
        raise KernelRefused("size", f"{len(data)} bytes, more than the {max_bytes} allowed (scorer.max_kernel_bytes)")
    tensors, metadata = _unpack(data)
    info = _info(metadata)
    if info.backbone_fingerprint != fingerprint:
        raise KernelRefused(
            "fingerprint", f"made for backbone {info.backbone_fingerprint[:12]}, this one is {fingerprint[:12]}"
        )
    _check_dependencies(metadata, depends_on)
    try:
        check_shapes(tensors, _tensors(Kernel.identity(start)))
    except ContainerError as error:
        raise KernelRefused("shapes", str(error)) from error
    conversion = None if start.conversion is None else Kernel(start.conversion, tensors[_CONVERSION])
    return Kernel(start, tensors[_WEIGHTS], conversion), info


def read_info(data: bytes) -> KernelInfo:
    """Metadata of a record, for any backbone and configuration. Raises KernelRefused."""
    return _info(_unpack(data)[1])


def _unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        return unpack(data)
    except ContainerError as error:
        raise KernelRefused("contents" if "non-finite" in str(error) else "garbage", str(error)) from error


def _info(metadata: dict[str, Any]) -> KernelInfo:
    """The record's description. Raises KernelRefused if it is another program's or version's, or has wrong fields."""
    if metadata.get("kind") != "kernel":
        raise KernelRefused("garbage", "the record holds no kernel")
    if metadata.get("format") != FORMAT:
        raise KernelRefused(
            "format",
            f"the record has format {shortened(metadata.get('format'))}, this program reads {FORMAT}: run one version "
            "of Driftline in processor and scorer; the next kernel that the processor publishes replaces the record",
        )
    try:
        info = msgspec.convert(metadata, KernelInfo)
    except msgspec.ValidationError as error:
        raise KernelRefused("garbage", f"metadata: {error}") from error
    if not math.isfinite(info.newest_event_time):
        raise KernelRefused("garbage", f"metadata: newest_event_time is {info.newest_event_time}")
    return info


def _check_dependencies(metadata: dict[str, Any], current: Mapping[str, Any]) -> None:
    """Raises KernelRefused, naming the keys, if the weights depend on other settings than the `current` ones."""
    stored = metadata.get("depends_on")
    if not isinstance(stored, dict):
        raise KernelRefused("garbage", "metadata: depends_on is no table of keys")
    keys = differing(stored, current)
    if keys:
        raise KernelRefused(
            "configuration",
            f"{difference(stored, current, 'record')}: give processor and scorer the same {sections(keys)} "
            "configuration",
        )
