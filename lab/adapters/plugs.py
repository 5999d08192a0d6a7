"""Few-parameter adapters from the literature, plugged into the frozen trunk and tower. All start as the identity.

The formulas are the papers'. Where they are put in this network, their ranks and their widths are ours: between 7 000
and 29 000 parameters, beside some 10 000 of the kernel (docs/decisions/0064). Where a method has parameters per domain,
they are the sum over the domain's facets (ours: the papers have one flat domain index, which would leave most
combinations of scene, region and period without data).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lab.adapters.path import LAYERS, ClickPath, Plugs
from model.backbone.methods.bottleneck import Bottleneck
from model.backbone.methods.lora import LowRank


class FacetTables(nn.Module):
    """One parameter of a given shape per value of each facet; a domain's is their sum.

    Rows are taken by a product with `one_hot`: its gradient costs less than half of what that of indexing costs
    (docs/decisions/0064).
    """

    def __init__(self, sizes: Sequence[int], shape: Sequence[int], std: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.shape = tuple(shape)
        self.table = nn.Parameter(std * torch.randn(sum(sizes), math.prod(shape), generator=generator))

    def forward(self, hot: Tensor) -> Tensor:
        """`(n, values of all facets)` to `(n, *shape)`."""
        return (hot @ self.table).view(len(hot), *self.shape)


def one_hot(domain: Tensor, sizes: Sequence[int]) -> Tensor:
    """Facet indices `(n, 3)` as `(n, values of all facets)` with a one per facet."""
    start = torch.tensor([sum(sizes[:facet]) for facet in range(len(sizes))])
    return torch.zeros(len(domain), sum(sizes)).scatter_(1, domain + start, 1.0)


class BiasOnly(Plugs):
    """A new bias for each layer (BitFit, Ben Zaken et al., ACL 2022, trains the biases alone)."""

    def __init__(self, path: ClickPath) -> None:
        super().__init__()
        shapes = {name: (copies, 1, out) for name, (copies, _, out) in path.shapes.items()}
        self.bias = nn.ParameterDict({name: torch.zeros(shape) for name, shape in shapes.items()})

    def linear(self, layer: str, inputs: Tensor, out: Tensor) -> Tensor:
        """The layer's output plus the learned bias, `(n, k)`."""
        bias: Tensor = self.bias[layer]
        return out + (bias if out.dim() == 3 else bias[0])


class HeadOnly(Plugs):
    """The click tower is trained, the trunk is not: linear probing with the tower's hidden layer (reference)."""

    def __init__(self, path: ClickPath) -> None:
        super().__init__()
        layers = ("tower_in", "tower_out")
        self.weight = nn.ParameterDict({name: torch.zeros(path.shapes[name][1:]) for name in layers})
        self.bias = nn.ParameterDict({name: torch.zeros(path.shapes[name][2]) for name in layers})

    def linear(self, layer: str, inputs: Tensor, out: Tensor) -> Tensor:
        """The layer's output plus the learned change of its weights, `(n, k)`."""
        if layer not in self.weight:
            return out
        changed: Tensor = out + inputs @ self.weight[layer] + self.bias[layer]
        return changed


class LoRA(Plugs):
    """`W x + (alpha / r) B A x` in every layer, A random, B zero, alpha = r (Hu et al., ICLR 2022, section 4.1)."""

    def __init__(self, path: ClickPath, rank: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.low_rank = nn.ModuleDict({name: LowRank(*shape, rank, generator) for name, shape in path.shapes.items()})

    def linear(self, layer: str, inputs: Tensor, out: Tensor) -> Tensor:
        """The layer's output plus the low-rank change, `(n, k)`."""
        changed: Tensor = cast(LowRank, self.low_rank[layer]).beside(inputs, out)
        return changed


class MLoRA(Plugs):
    """A low-rank change and a bias per domain in every layer: `W x + B_k A_k x + b_k` (MLoRA, RecSys 2024).

    It is the second mode of the paper, pre-train then freeze. A_k is random, B_k and b_k start at zero, nothing is
    scaled, as in the code of its authors. Rank one is ours; theirs is `max(out / alpha, 1)` with an alpha of 16 or 256.
    """

    def __init__(self, path: ClickPath, domain_sizes: Sequence[int], seed: int) -> None:
        super().__init__()
        self.down, self.up, self.bias = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for number, (name, (copies, width_in, width_out)) in enumerate(path.shapes.items()):
            std = width_in**-0.5
            self.down[name] = FacetTables(domain_sizes, (copies, width_in), std, seed + number)
            self.up[name] = FacetTables(domain_sizes, (copies, width_out))
            self.bias[name] = FacetTables(domain_sizes, (copies, width_out))
        self._sizes, self._hot = tuple(domain_sizes), torch.zeros(0, sum(domain_sizes))

    def begin(self, domain: Tensor) -> None:
        """Keeps the batch's domains."""
        self._hot = one_hot(domain, self._sizes)

    def _of(self, tables: nn.ModuleDict, layer: str) -> Tensor:
        picked: Tensor = tables[layer](self._hot).transpose(0, 1)
        return picked

    def linear(self, layer: str, inputs: Tensor, out: Tensor) -> Tensor:
        """Adds each row's own low-rank change and bias."""
        wide = inputs if out.dim() == 3 else inputs[None]
        code = (wide * self._of(self.down, layer)).sum(-1, keepdim=True)
        change = code * self._of(self.up, layer) + self._of(self.bias, layer)
        return out + (change if out.dim() == 3 else change[0])


class Houlsby(Plugs):
    """`h + W_up act(W_down h)` after each layer but the last (Houlsby et al., ICML 2019; AdapterRec, WSDM 2024).

    The papers put two into each transformer block, before the residual sum; an MLP has no such sum, so here they come
    after the activation (ours).
    """

    def __init__(self, path: ClickPath, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.blocks = nn.ModuleDict(
            {name: Bottleneck(copies, out, width, out, generator) for name, (copies, _, out) in path.shapes.items()}
        )
        del self.blocks["tower_out"]

    def block(self, layer: str, out: Tensor) -> Tensor:
        """The block's output plus that of the bottleneck, `(n, k)`."""
        changed: Tensor = out + self.blocks[layer](out)
        return changed


class PeterRec(Plugs):
    """Parallel model patch `W x + mp(x)` beside the trunk's layers, and a trained head (PeterRec, SIGIR 2020).

    In the paper the layer is a dilated convolution, and layer norms are trained too; the trunk here has none. That the
    patch starts at zero is ours.
    """

    def __init__(self, path: ClickPath, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        patched = {name: path.shapes[name] for name in ("first", "second")}
        self.patches = nn.ModuleDict(
            {name: Bottleneck(copies, w_in, width, out, generator) for name, (copies, w_in, out) in patched.items()}
        )
        self.head = HeadOnly(path)

    def linear(self, layer: str, inputs: Tensor, out: Tensor) -> Tensor:
        """Adds the patch, or the head's change."""
        if layer not in self.patches:
            return self.head.linear(layer, inputs, out)
        changed: Tensor = out + self.patches[layer](inputs)
        return changed


class Star(Plugs):
    """STAR on a frozen network (Sheng et al., CIKM 2021): `gamma_k x + beta_k`, `b + b_k`, and factors of `W`.

    Partitioned normalisation and the star topology `W_k* = W (*) W_k` are the paper's; it trains all of it, here the
    shared part is frozen. `W_k = 1 + u_k v_k'`, with `rank_one`, is ours: a full W_k would cost as much as the network.
    """

    def __init__(self, path: ClickPath, domain_sizes: Sequence[int], *, rank_one: bool, seed: int) -> None:
        super().__init__()
        self._path = path
        self.gamma, self.beta = FacetTables(domain_sizes, (path.width,)), FacetTables(domain_sizes, (path.width,))
        shapes = path.shapes
        self.bias = nn.ModuleDict({n: FacetTables(domain_sizes, (c, o)) for n, (c, _, o) in shapes.items()})
        self.left, self.right = nn.ModuleDict(), nn.ModuleDict()
        for number, name in enumerate(LAYERS if rank_one else ()):
            copies, width_in, width_out = shapes[name]
            self.left[name] = FacetTables(domain_sizes, (copies, width_in), 1.0, seed + number)
            self.right[name] = FacetTables(domain_sizes, (copies, width_out))
        self._sizes, self._hot = tuple(domain_sizes), torch.zeros(0, sum(domain_sizes))

    def begin(self, domain: Tensor) -> None:
        """Keeps the batch's domains."""
        self._hot = one_hot(domain, self._sizes)

    def representation(self, x: Tensor) -> Tensor:
        """The partitioned norm's scale and shift."""
        gamma: Tensor = self.gamma(self._hot)
        beta: Tensor = self.beta(self._hot)
        return x * (1 + gamma) + beta

    def linear(self, layer: str, inputs: Tensor, out: Tensor) -> Tensor:
        """Adds the domain's bias and the rank-one factor's part: `((x * u) W) * v`."""
        change = self._of(self.bias, layer)
        if layer in self.left:
            wide = inputs if out.dim() == 3 else inputs[None]
            turned = (wide * self._of(self.left, layer)) @ self._path.weight(layer)
            change = change + turned * self._of(self.right, layer)
        return out + (change if out.dim() == 3 else change[0])

    def _of(self, tables: nn.ModuleDict, layer: str) -> Tensor:
        picked: Tensor = tables[layer](self._hot).transpose(0, 1)
        return picked
