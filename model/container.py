"""Tensors with metadata as bytes, by safetensors and never pickle; equal content gives equal bytes."""

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
    """The bytes are damaged or of another kind; the message says what is wrong."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Tensors and metadata as bytes. The JSON metadata are one sorted string, so that equal content gives equal
    bytes."""
    copied = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    return bytes(save(copied, {_KEY: json.dumps(metadata, sort_keys=True)}))


def unpack(data: bytes, *, max_bytes: int | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `pack`. Raises ContainerError for too many bytes, garbage, foreign files and non-finite values."""
    if max_bytes is not None and len(data) > max_bytes:
        raise ContainerError(f"{len(data)} bytes, more than the {max_bytes} allowed")
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        metadata = json.loads(header["__metadata__"][_KEY])
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        # RuntimeError covers JSON nested too deep (RecursionError) and torch's error for types it does not know.
        raise ContainerError(f"not a container written by Driftline: {error}") from error
    if not isinstance(metadata, dict):
        raise ContainerError(f"not a container written by Driftline: its metadata is a {type(metadata).__name__}")
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
