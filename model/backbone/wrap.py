"""Bring your own backbone: any torch module with `represent` and `predict` can carry a kernel."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from model.backbone.interface import fingerprint, round_representation
from model.encoding.features import FeatureBatch


class WrappedBackbone(nn.Module):
    """Makes a `FrozenBackbone` of a trained module of yours. It is frozen here: no gradients, evaluation mode.

    The module offers `represent(batch: FeatureBatch) -> (n, d)` and `predict(x, domain) -> (n,)`, `(n, 1)` or `(n, 2)`
    logits (the second column is CVR). It may offer `content(batch) -> (n, c)`; without it, content vectors are a fixed
    random projection of the items' text vectors. If it offers `trunk(x, domain)` and `head(h)`, pass `trunk_width`, and
    a kernel may sit after the trunk too.
    """

    projection: Tensor

    def __init__(
        self, module: nn.Module, probe: FeatureBatch, *, content_width: int = 16, trunk_width: int | None = None
    ) -> None:
        """`probe` is any batch of at least two items for one user: with it, everything is tried once.

        Raises TypeError for a missing method, ValueError for a wrong shape or non-finite, non-deterministic or
        non-differentiable outputs; the message names the method.
        """
        super().__init__()
        for method in ("represent", "predict", *(("trunk", "head") if trunk_width is not None else ())):
            if not callable(getattr(module, method, None)):
                raise TypeError(f"{type(module).__name__} has no method {method}(): a backbone needs it")
        self.module = module
        self.trunk_width = trunk_width
        self._own_content = callable(getattr(module, "content", None))
        generator = torch.Generator().manual_seed(0)
        text_width = probe.text.shape[1]
        self.register_buffer(
            "projection", torch.randn(text_width, content_width, generator=generator) / text_width**0.5
        )
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False).eval()
        self.width = 0
        self.content_width = content_width
        self.has_conversion = False
        self._try(probe)
        self._fingerprint = fingerprint(self, type(module).__name__)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of parameters and buffers, taken when it was wrapped."""
        return self._fingerprint

    def represent(self, batch: FeatureBatch) -> Tensor:
        """The module's representation, `(n, d)`."""
        return self._module.represent(batch).float()  # type: ignore[no-any-return]

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CTR and CVR, `(n, 2)`; the second is 0 if the module has one logit only."""
        return _two_columns(self._module.predict(x, domain))

    def trunk(self, x: Tensor, domain: Tensor) -> Tensor:
        """The module's trunk, `(n, trunk_width)`."""
        return self._module.trunk(x, domain)  # type: ignore[no-any-return]

    def head(self, h: Tensor) -> Tensor:
        """The module's head, `(n, 2)`."""
        return _two_columns(self._module.head(h))

    def content(self, batch: FeatureBatch) -> Tensor:
        """Content vectors of the items, rounded to float16 as they are logged, `(n, c)`."""
        vectors = self._module.content(batch) if self._own_content else batch.text @ self.projection
        return round_representation(vectors)

    @property
    def _module(self) -> Any:
        return self.module

    def _try(self, probe: FeatureBatch) -> None:
        n = len(probe)
        with torch.no_grad():
            x, again = self.represent(probe), self.represent(probe)
            content = self.content(probe)
        for name, value in (("represent", x), ("content", content)):
            if value.dim() != 2 or value.shape[0] != n:
                raise ValueError(f"{name}() gives shape {tuple(value.shape)} for {n} items, expected ({n}, width)")
            if not bool(torch.isfinite(round_representation(value)).all()):
                raise ValueError(f"{name}() gives values that are not finite in float16: scale or normalise them")
        if not torch.equal(x, again):
            raise ValueError("represent() gives another result the second time: is dropout on, or randomness inside?")
        self.width, self.content_width = x.shape[1], content.shape[1]
        domain = probe.domain.expand(n, -1)
        leaf = round_representation(x).requires_grad_()
        raw = cast("Tensor", self._module.predict(leaf, domain))
        if tuple(raw.shape) not in ((n,), (n, 1), (n, 2)):
            raise ValueError(f"predict() gives shape {tuple(raw.shape)}, expected ({n},), ({n}, 1) or ({n}, 2)")
        self.has_conversion = raw.dim() == 2 and raw.shape[1] == 2
        if not raw.requires_grad:
            raise ValueError("predict() is not differentiable in x: is there a no_grad or a detach inside?")
        if not bool(torch.isfinite(raw).all()):
            raise ValueError("predict() gives non-finite logits")


def _two_columns(logits: Tensor) -> Tensor:
    if logits.dim() == 1:
        logits = logits[:, None]
    return logits if logits.shape[1] == 2 else torch.cat([logits, torch.zeros_like(logits)], dim=1)
