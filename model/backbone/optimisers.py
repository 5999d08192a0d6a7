"""PyTorch's optimisers without its compiler, which nothing here uses.

`torch.optim` imports `torch._dynamo` as soon as an optimiser is made, in order to keep the compiler away from some of
the optimiser's functions: seconds of every process that trains (docs/decisions/0141). These classes take the same
functions as they stand below that wrapper, so a step gives the same bits.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch
from torch.optim import Optimizer


class _Uncompiled(Optimizer):
    """What every optimiser does outside its step."""

    add_param_group: Any = unwrap(Optimizer.add_param_group)
    zero_grad: Any = unwrap(Optimizer.zero_grad)
    state_dict: Any = unwrap(Optimizer.state_dict)
    load_state_dict: Any = unwrap(Optimizer.load_state_dict)


class AdamW(_Uncompiled, torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    step: Any = torch.no_grad()(unwrap(torch.optim.AdamW.step))


class LBFGS(_Uncompiled, torch.optim.LBFGS):
    """Limited-memory BFGS; its step is the library's."""
