"""The interface that a backbone must offer to carry a kernel, and the fingerprint of its frozen parameters."""

from __future__ import annotations

import hashlib
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from model.encoding.features import FeatureBatch


@runtime_checkable
class FrozenBackbone(Protocol):
    """What a kernel needs of a backbone. Every method is deterministic; no parameter is trained again."""

    width: int
    """Width d of the representation."""
    content_width: int
    """Width c of the content vectors."""
    has_conversion: bool
    """Whether column 1 of `predict` is a trained conversion logit."""

    @property
    def fingerprint(self) -> str:
        """A hash of the frozen parameters. Kernels and logged representations carry it."""

    def represent(self, batch: FeatureBatch) -> Tensor:
        """The fused representation, float32 `(n, d)`."""

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CTR and CVR, `(n, 2)`, from `x` `(n, d)` and facet indices `(n, 3)`. Differentiable in `x`."""

    def content(self, batch: FeatureBatch) -> Tensor:
        """Content vectors of the items, float32 `(n, c)`."""


@runtime_checkable
class TwoTowers(FrozenBackbone, Protocol):
    """A backbone whose representation is a user vector beside an item vector, so that a scorer can cache each."""

    @property
    def reads_clock(self) -> bool:
        """Whether a user's vector depends on the time of the request."""

    def user_vector(self, batch: FeatureBatch) -> Tensor:
        """Vectors of the users in their domains, float32 `(u, d / 2)`."""

    def item_vector(self, batch: FeatureBatch) -> Tensor:
        """Vectors of the items, float32 `(n, d / 2)`."""


@runtime_checkable
class RelevanceBackbone(FrozenBackbone, Protocol):
    """A backbone that may also predict how relevant an item is to a query."""

    has_relevance: bool
    """Whether it does."""

    def predict_all(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CTR, CVR and relevance, `(n, 3)`; the first two as by `predict`."""


def predicts_relevance(backbone: FrozenBackbone) -> TypeGuard[RelevanceBackbone]:
    """Whether a frozen backbone predicts relevance."""
    return isinstance(backbone, RelevanceBackbone) and backbone.has_relevance


def round_representation(x: Tensor) -> Tensor:
    """`x` rounded to float16 and back, once and before any use, so that the logged value is the one that was used."""
    return x.half().float()


def fingerprint(module: nn.Module, *extra: str) -> str:
    """SHA-256 over names, shapes, types and bytes of all parameters and buffers, and over `extra`."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for text in extra:
        digest.update(text.encode())
    return digest.hexdigest()
