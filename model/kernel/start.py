"""The initial state of a kernel: everything it takes over from pretraining, stored with the backbone.

Compression and descriptor are fixed with the backbone. The posterior starts with the weights of the frozen logit and
the counters, learned from the newest part of the pretraining log. The frozen logits there come from a model that was
not trained on these examples, as will be the case on the stream (docs/decisions/0085).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.backbone.schema import BackboneRefused
from model.container import ContainerError, pack, unpack
from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor
from model.kernel.features import FeatureMap
from model.whole_files import write_whole

FILE = "kernel-start.safetensors"
"""File name in a backbone's folder."""
CONVERSION_FILE = "kernel-start-cvr.safetensors"
"""File name of the conversion task's start."""
FORMAT = 2
_TENSORS = ("centre", "projection", "gain", "relevance", "table", "shift", "mean", "direct_mean", "precision")


class StartRefused(BackboneRefused):
    """A kernel's initial state cannot be used; the message names the file and the cure."""


@dataclass(frozen=True)
class KernelStart:
    """The initial state of the kernels of one backbone."""

    compression: Compression
    descriptor: Descriptor
    live_names: tuple[str, ...]
    """Names of the live features that the kernel reads, T first."""
    residuals: int
    """Number of T features."""
    mean: Tensor
    """Weights learned from the pretraining log, float32 `(p,)`; those of T are zero."""
    direct_mean: Tensor
    """Weights of the model with direct features alone, float32 `(direct,)`."""
    precision: Tensor
    """Posterior precision of both models' weights, float32 `(p, p)`."""
    examples: int
    """Number of the log's examples that the weights were learned from."""
    conversion: KernelStart | None = None
    """The start of the conversion task's kernels; None for a backbone of clicks alone."""

    @cached_property
    def features(self) -> FeatureMap:
        """The map of examples to features."""
        return FeatureMap(self.compression, self.descriptor, self.residuals, len(self.live_names) - self.residuals)

    @property
    def width(self) -> int:
        """Width d of the representation."""
        return len(self.compression.centre)

    @property
    def values(self) -> int:
        """Number V of item values."""
        return len(self.descriptor.table) - 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole content, hexadecimal; a kernel with another digest does not fit."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The start as bytes, without the conversion task's, which is a file of its own; equal starts, equal bytes."""
        compression, descriptor = self.compression, self.descriptor
        values = (
            compression.centre, compression.projection, compression.gain, compression.relevance,
            descriptor.table, descriptor.shift,
            self.mean, self.direct_mean, self.precision,
        )  # fmt: skip
        metadata = {
            "kind": "kernel-start",
            "format": FORMAT,
            "beta": compression.beta,
            "logit_mean": descriptor.logit_mean,
            "logit_deviation": descriptor.logit_deviation,
            "live_names": list(self.live_names),
            "residuals": self.residuals,
            "examples": self.examples,
        }
        return pack(dict(zip(_TENSORS, values, strict=True)), metadata)

    @staticmethod
    def from_bytes(data: bytes) -> KernelStart:
        """The inverse of `to_bytes`. Raises ContainerError."""
        tensors, metadata = unpack(data)
        if metadata.get("kind") != "kernel-start" or metadata.get("format") != FORMAT:
            raise ContainerError(f"it holds no kernel's start of format {FORMAT}")
        if set(tensors) != set(_TENSORS):
            raise ContainerError(f"it holds {sorted(tensors)}, not {sorted(_TENSORS)}")
        start = _built(tensors, metadata)
        _check(start)
        return start

    def save(self, folder: Path) -> None:
        """Writes it into a backbone's folder."""
        write_whole(folder / FILE, self.to_bytes())
        if self.conversion is not None:
            write_whole(folder / CONVERSION_FILE, self.conversion.to_bytes())

    @staticmethod
    def load(folder: Path, *, conversions: bool = False) -> KernelStart:
        """The start in a backbone's folder, with that of the conversion task for a backbone of `conversions`.

        Raises StartRefused.
        """
        start = KernelStart._read(folder / FILE)
        return replace(start, conversion=KernelStart._read(folder / CONVERSION_FILE)) if conversions else start

    @staticmethod
    def _read(path: Path) -> KernelStart:
        try:
            return KernelStart.from_bytes(path.read_bytes())
        except FileNotFoundError as error:
            raise StartRefused(
                f"{path} is missing: the backbone was pretrained by an older Driftline; pretrain it again"
            ) from error
        except (OSError, ContainerError) as error:
            raise StartRefused(f"{path} cannot be used ({error}): pretrain the backbone again") from error

    def check_live(self, names: Sequence[str]) -> None:
        """Raises StartRefused unless this process has the live features that the start was made for."""
        if self.conversion is not None:
            self.conversion.check_live(names)
        if tuple(names) != self.live_names:
            odd = sorted(set(names) ^ set(self.live_names))
            raise StartRefused(
                f"the kernel's start was made for {len(self.live_names)} live features, this process has {len(names)} "
                f"(different: {', '.join(odd[:3]) or 'their order'}): give pretraining, processor and scorer the same "
                "`live`, `domains` and `features.item_fields` configuration, or pretrain the backbone again"
            )


def _built(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> KernelStart:
    """Raises ContainerError if a tensor or a field of the metadata is missing or wrong."""
    try:
        return KernelStart(
            Compression(
                tensors["centre"], tensors["projection"], tensors["gain"], tensors["relevance"], float(metadata["beta"])
            ),
            Descriptor(
                tensors["table"], tensors["shift"], float(metadata["logit_mean"]), float(metadata["logit_deviation"])
            ),
            live_names=tuple(map(str, metadata["live_names"])),
            residuals=int(metadata["residuals"]),
            mean=tensors["mean"],
            direct_mean=tensors["direct_mean"],
            precision=tensors["precision"],
            examples=int(metadata["examples"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ContainerError(f"its metadata is wrong: {error!r}") from error


def _check(start: KernelStart) -> None:
    """Raises ContainerError unless all shapes fit together."""
    compression, descriptor = start.compression, start.descriptor
    width, rank, shown = len(compression.centre), len(compression.gain), len(descriptor.shift)
    tensors = (
        compression.centre, compression.projection, compression.gain, compression.relevance,
        descriptor.table, descriptor.shift,
        start.mean, start.direct_mean, start.precision,
    )  # fmt: skip
    sound = (
        compression.projection.shape == (width, rank)
        and compression.relevance.shape == (rank,)
        and descriptor.table.dim() == 2
        and descriptor.table.shape[1] == shown
        and 0 <= start.residuals <= len(start.live_names)
        and start.mean.shape == (start.features.width,)
        and start.direct_mean.shape == (start.features.direct,)
        and start.precision.shape == (start.features.width, start.features.width)
        and all(math.isfinite(value) for value in (compression.beta, descriptor.logit_mean, descriptor.logit_deviation))
        and bool((start.precision.diagonal() > 0).all())
        and all(tensor.dtype == torch.float32 for tensor in tensors)
    )
    if not sound:
        raise ContainerError("its tensors do not fit together")
