"""Bring your own backbone: any torch module with `represent` and `predict` can carry a kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.backbone.checks import check_behaviour
from model.backbone.interface import fingerprint, round_representation
from model.backbone.state import check_state, unsaved_state
from model.encoding.features import FeatureBatch


class WrappedBackbone(nn.Module):
    """Makes a `FrozenBackbone` of a user's trained module. It freezes the module: no gradients, evaluation mode.

    The module offers `represent(batch: FeatureBatch) -> (n, d)` and `predict(x, domain) -> (n,)`, `(n, 1)` or `(n, 2)`
    logits (the second column is CVR). It may offer `content(batch) -> (n, c)`; without it, content vectors are a fixed
    random projection of the items' text vectors.
    """

    projection: Tensor

    def __init__(
        self, module: nn.Module, probe: FeatureBatch, *, content_width: int = 16, identity: tuple[str, ...] = ()
    ) -> None:
        """`probe` is any batch of at least two items; every method is tested on its rows, alone and together.

        `identity` goes into the fingerprint beside the parameters. Raises TypeError for a missing method, ValueError
        for parameters or outputs that a frozen backbone cannot have; the message names the parameter or the method.
        """
        super().__init__()
        for method in ("represent", "predict"):
            if not callable(getattr(module, method, None)):
                raise TypeError(f"{type(module).__name__} has no method {method}(): a backbone needs it")
        if len(probe) < 2:
            raise ValueError("the probe has one item: a backbone is tried on at least two")
        check_state(module)
        self.module = module
        content = getattr(module, "content", None)
        self._own_content = callable(content) and not isinstance(content, nn.Module)
        generator = torch.Generator().manual_seed(0)
        text_width = probe.text.shape[1]
        self.register_buffer(
            "projection", torch.randn(text_width, content_width, generator=generator) / text_width**0.5
        )
        self._freeze()
        tried = check_behaviour(self, probe)
        self.width, self.content_width, self.has_conversion = tried.width, tried.content_width, tried.has_conversion
        check_state(module)  # again, because a method may store a tensor outside the parameters at its first call
        self._fingerprint = fingerprint(self, type(module).__name__, unsaved_state(module), *identity)

    def _freeze(self) -> None:
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False).eval()
        for name, part in self.named_modules():
            if part.training:
                raise ValueError(
                    f"{name.removeprefix('module.')!r} stays in training mode after eval(): does it override train()?"
                )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of parameters, buffers and plain settings, computed when the module was wrapped."""
        return self._fingerprint

    @property
    def raw(self) -> Any:
        """The wrapped module, whose outputs are not converted to one form yet."""
        return self.module

    def represent(self, batch: FeatureBatch) -> Tensor:
        """The module's representation, float32 `(n, d)`."""
        x: Tensor = self.raw.represent(batch)
        return x.float()

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CTR and CVR, float32 `(n, 2)`; the second is 0 if the module has one logit only."""
        return _two_columns(self.raw.predict(x, domain))

    def raw_content(self, batch: FeatureBatch) -> Tensor:
        """Content vectors before they are rounded."""
        vectors: Tensor = self.raw.content(batch) if self._own_content else batch.text @ self.projection
        return vectors

    def content(self, batch: FeatureBatch) -> Tensor:
        """Content vectors of the items, rounded to float16 as they are logged, `(n, c)`."""
        return round_representation(self.raw_content(batch))


def _two_columns(logits: Tensor) -> Tensor:
    logits = logits.float()
    if logits.dim() == 1:
        logits = logits[:, None]
    return logits if logits.shape[1] == 2 else torch.cat([logits, torch.zeros_like(logits)], dim=1)
