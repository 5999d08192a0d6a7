"""A learner's state as bytes. Reading checks everything before it returns a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Annotated, Any

import msgspec
from torch import Tensor

from model.container import ContainerError, check_shapes, pack, unpack
from model.kernel.compatibility import difference

KIND = "natural-parameter learner"
"""Earlier versions stored the means of their posteriors, under the kind "closed-form learner"."""
_FRESH_TOPICS = "give this one topics of its own (topics.kernels, topics.state)"


@dataclass(frozen=True)
class LearnerState:
    """A learner's complete state: a learner that restores it continues bit for bit."""

    tensors: Mapping[str, Tensor]
    batches: int
    examples: int
    backbone_fingerprint: str
    depends_on: Mapping[str, Any]
    """Configuration values and sizes that decide the shapes and the meaning of the tensors."""


@dataclass(frozen=True)
class _StoredCounts:
    batches: Annotated[int, msgspec.Meta(ge=0)]
    examples: Annotated[int, msgspec.Meta(ge=0)]


def pack_learner(state: LearnerState) -> bytes:
    """A learner's state as bytes; equal states give equal bytes."""
    metadata = {
        "kind": KIND,
        "backbone_fingerprint": state.backbone_fingerprint,
        "depends_on": dict(state.depends_on),
        "batches": state.batches,
        "examples": state.examples,
    }
    return pack(state.tensors, metadata)


def unpack_learner(data: bytes, current: LearnerState) -> LearnerState:
    """Reads a snapshot for a learner whose own state is `own`.

    Raises ContainerError if the snapshot is damaged or was made by another backbone, configuration or version; the
    message names what differs and the cure.
    """
    tensors, metadata = unpack(data)
    for key, expected in (("kind", KIND), ("backbone_fingerprint", current.backbone_fingerprint)):
        if metadata.get(key) != expected:
            raise ContainerError(
                f"learner snapshot: {key} is {shortened(metadata.get(key))}, here {expected!r}: go back to the version "
                f"and backbone that wrote it, or {_FRESH_TOPICS}"
            )
    depends_on = metadata.get("depends_on")
    if not isinstance(depends_on, dict):
        raise ContainerError(f"learner snapshot: another version of Driftline wrote it; {_FRESH_TOPICS}")
    clause = difference(depends_on, current.depends_on, "snapshot")
    if clause:
        raise ContainerError(f"learner snapshot: {clause}; go back to that configuration, or {_FRESH_TOPICS}")
    check_shapes(tensors, current.tensors)
    try:
        counts = msgspec.convert(metadata, _StoredCounts)
    except msgspec.ValidationError as error:
        raise ContainerError(f"learner snapshot: {error}") from error
    return LearnerState(tensors, counts.batches, counts.examples, current.backbone_fingerprint, depends_on)
