"""The frozen network between representation and logits: MLP, MMoE or PLE trunk, and the towers.

A fourth kind, `dssm`, has no trunk: see `model/backbone/dssm.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from model.backbone.fusion import mlp

TrunkKind = Literal["mlp", "mmoe", "ple"]


class Experts(nn.Module):
    """`e` two-layer experts, computed together: the first layers as one product, the second as one batched product."""

    def __init__(self, experts: int, width_in: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.experts, self.hidden = experts, hidden
        self.first_layers = nn.Linear(width_in, experts * hidden)
        self.second = nn.Parameter(torch.empty(experts, hidden, width))
        self.second_bias = nn.Parameter(torch.zeros(experts, 1, width))
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.first_layers.weight, nonlinearity="relu")
        nn.init.zeros_(self.first_layers.bias)
        for expert in range(experts):
            nn.init.kaiming_uniform_(self.second[expert].T, nonlinearity="relu")

    @property
    def first(self) -> Tensor:
        """The first layers' matrices, `(e, width_in, hidden)`."""
        return self.first_layers.weight.view(self.experts, self.hidden, -1).transpose(1, 2)

    @property
    def first_bias(self) -> Tensor:
        """The first layers' biases, `(e, 1, hidden)`."""
        return self.first_layers.bias.view(self.experts, 1, self.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, width_in)` to `(e, n, width)`."""
        hidden = self.dropout(torch.relu(self.first_layers(x)))
        apart = hidden.view(len(x), self.experts, self.hidden).transpose(0, 1)
        return torch.relu(torch.baddbmm(self.second_bias, apart, self.second))


class Trunk(nn.Module):
    """`f^t(x) = sum_i g^t(x)_i E_i(x)`, `g^t = softmax(W_t [x; e_k])`.

    MMoE shares all experts between the tasks; PLE gives each task its own beside the shared ones; MLP is one expert.
    """

    def __init__(
        self, kind: TrunkKind, tasks: int, width: int, domain_width: int, *,
        experts: int, hidden: int, width_out: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.kind, self.tasks, self.count = kind, tasks, 1 if kind == "mlp" else experts
        groups = 1 + (tasks if kind == "ple" else 0)
        self.experts = Experts(self.count * groups, width, hidden, width_out, dropout)
        if kind != "mlp":
            seen = self.count * (2 if kind == "ple" else 1)
            self.gates = nn.ModuleList(nn.Linear(width + domain_width, seen) for _ in range(tasks))

    def forward(self, x: Tensor, vector: Tensor) -> list[Tensor]:
        """`(n, d)` and domain vectors `(n, e)` to one vector per task, `(n, width_out)` each."""
        out: Tensor = self.experts(x)
        if self.kind == "mlp":
            return [out[0]] * self.tasks
        asked = torch.cat([x, vector], dim=-1)
        mixed = []
        for task, gate in enumerate(self.gates):
            own = self.count * (task + 1)
            seen = torch.cat([out[: self.count], out[own : own + self.count]]) if self.kind == "ple" else out
            weight = torch.softmax(gate(asked), dim=-1)
            mixed.append((seen * weight.T[..., None]).sum(0))
        return mixed


class Towers(nn.Module):
    """One small network per task; a missing conversion tower gives a neutral logit of 0."""

    def __init__(self, tasks: int, *widths: int, relevance: bool = False) -> None:
        """`widths` are those of the input and of the hidden layers, of which there may be none.

        `relevance` adds a tower that `forward` does not use.
        """
        super().__init__()
        self.nets = nn.ModuleList(mlp((*widths, 1)) for _ in range(tasks))
        self.relevance = mlp((*widths, 1)) if relevance else None

    @torch.no_grad()
    def shrink(self, share: float) -> None:
        """Multiplies the click tower's output by `share`."""
        last = self.nets[0][-1]  # type: ignore[index]
        for parameter in (last.weight, last.bias):
            parameter.mul_(share)

    def forward(self, h: Sequence[Tensor], first_order: Tensor | None = None) -> Tensor:
        """One `(n, width)` per task to logits of CTR and CVR, `(n, 2)`; `first_order` `(n, 1)` is added to CTR."""
        logits = [net(part) for net, part in zip(self.nets, h, strict=True)]
        if first_order is not None:
            logits[0] = logits[0] + first_order
        if len(logits) == 1:
            logits.append(torch.zeros_like(logits[0]))
        return torch.cat(logits, dim=-1)
