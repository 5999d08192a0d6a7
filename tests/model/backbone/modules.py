"""Modules for tests of custom backbones: the least that works, and changes that break one promise each."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from model.encoding.features import FeatureBatch
from tests.model.conftest import TEXT


class Good(nn.Module):
    """The least that works; the others break one promise each."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(TEXT, 6)
        self.out = nn.Linear(6, 1)

    def represent(self, batch: FeatureBatch) -> Tensor:
        x: Tensor = self.net(batch.text)
        return x

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        logits: Tensor = self.out(x)[:, 0]
        return logits


class WithContent(Good):
    def content(self, batch: FeatureBatch) -> Tensor:
        return batch.text[:, :3]


Method = Callable[..., Tensor]


def changed(base: type[Good], method: str, change: Callable[[Method, nn.Module], Method]) -> Good:
    """A module whose one method is changed."""
    original = getattr(base, method)

    def replacement(self: nn.Module, *arguments: object) -> Tensor:
        return change(lambda *given: original(self, *given), self)(*arguments)

    module: Good = type(f"Changed{base.__name__}", (base,), {method: replacement})()
    return module


def after(function: Callable[[Tensor], object]) -> Callable[[Method, nn.Module], Method]:
    """A change of what the method gives."""
    return lambda method, _: lambda *given: function(method(*given))  # type: ignore[return-value]
