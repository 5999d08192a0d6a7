"""Our optimisers do what PyTorch's do, to the bit."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from model.backbone.optimisers import LBFGS, AdamW

Make = Callable[[list[Tensor]], Any]


def trained(make: Make, steps: int, restart: Make | None = None) -> list[Tensor]:
    """Parameters after some steps on a fixed loss; with `restart` another optimiser takes the state over half-way."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 5, generator=generator), torch.randn(40, generator=generator)
    parameters = [torch.randn(5, generator=generator).requires_grad_(), torch.zeros(1, requires_grad=True)]
    optimiser = make(parameters)

    def loss() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        value: Tensor = (x @ parameters[0] + parameters[1] - y).square().mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for step in range(steps):
        if restart is not None and step == steps // 2:
            stored = io.BytesIO()
            torch.save(optimiser.state_dict(), stored)
            optimiser = restart(parameters)
            stored.seek(0)
            optimiser.load_state_dict(torch.load(stored))
        with torch.enable_grad():
            optimiser.step(loss)
    return [parameter.detach() for parameter in parameters]


PAIRS: dict[str, tuple[type[Optimizer], type[Optimizer], dict[str, Any]]] = {
    "fused AdamW": (AdamW, torch.optim.AdamW, {"lr": 0.05, "weight_decay": 0.1, "fused": True}),
    "AdamW": (AdamW, torch.optim.AdamW, {"lr": 0.05, "weight_decay": 0.1}),
    "LBFGS": (LBFGS, torch.optim.LBFGS, {"max_iter": 3, "line_search_fn": "strong_wolfe"}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_and_a_restored_state_equal_those_of_pytorch_bit_for_bit(name: str) -> None:
    ours, theirs, options = PAIRS[name]
    expected = trained(lambda parameters: theirs(parameters, **options), 10)
    for restart in (None, lambda parameters: ours(parameters, **options)):
        got = trained(lambda parameters: ours(parameters, **options), 10, restart)
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_a_step_records_no_gradient() -> None:
    parameter = torch.ones(2, requires_grad=True)
    optimiser = AdamW([{"params": [parameter], "weight_decay": 0.1}], lr=0.1)
    parameter.square().sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert parameter.is_leaf
    assert float(parameter.detach()[0]) < 1.0
