"""Tensors with metadata as bytes: safetensors, never pickle, the same bytes for the same content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_KEY = "driftline"


class ContainerError(ValueError):
    """The bytes are not what they should be; the message says how."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """One blob. Metadata must be JSON; it is kept as one string, so that equal content gives equal bytes."""
    copied = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    return bytes(save(copied, {_KEY: json.dumps(metadata, sort_keys=True)}))


def unpack(data: bytes, *, max_bytes: int | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of `pack`. Raises ContainerError (size, garbage, foreign, non-finite)."""
    if max_bytes is not None and len(data) > max_bytes:
        raise ContainerError(f"{len(data)} bytes, more than the {max_bytes} allowed")
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        metadata = json.loads(header["__metadata__"][_KEY])
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        # RuntimeError: JSON nested too deep is a RecursionError, and torch has one for types it does not know.
        raise ContainerError(f"not a container of ours: {error}") from error
    if not isinstance(metadata, dict):
        raise ContainerError(f"not a container of ours: its metadata is {type(metadata).__name__}, not a table")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ContainerError(f"tensor {name!r} has non-finite values")
    return tensors, metadata


def check_shapes(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises ContainerError unless names, shapes and types agree."""
    missing, extra = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
    if missing or extra:
        raise ContainerError(f"tensors missing {missing[:3]}, not expected {extra[:3]}")
    for name, tensor in expected.items():
        other = actual[name]
        if other.shape != tensor.shape or other.dtype != tensor.dtype:
            raise ContainerError(
                f"tensor {name!r} is {other.dtype} {tuple(other.shape)}, expected {tensor.dtype} {tuple(tensor.shape)}"
            )
