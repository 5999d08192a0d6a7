"""What the kernel costs: parameters, a learning step, many domains, and scoring with it, as ratios of one run."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from features.config import LiveConfig
from features.live.layout import LiveLayout
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import round_representation
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig, KernelConfig, LearnerConfig
from model.encoding.features import FeatureBatch
from model.kernel.batch import MicroBatch
from model.kernel.kernel import Kernel, live_logit
from model.kernel.learner import Learner

EXAMPLES, CANDIDATES, SIZES = 128, 100, (2, 12, 5)
SLOTS_USER, SLOTS_ITEM = (1, 1, 1), (16, 1)


def median_ms(work: Callable[[], object], repeat: int = 60, warm: int = 8) -> float:
    """Median CPU time of one call, milliseconds: with one thread it is the wall time of an idle machine."""
    times = []
    for turn in range(warm + repeat):
        begun = time.process_time()
        work()
        if turn >= warm:
            times.append(time.process_time() - begun)
    return 1e3 * float(np.median(times))


def backbone_of(rows: int, sizes: tuple[int, int, int] = SIZES) -> FoundationBackbone:
    """The default backbone with user and item tables of `rows` rows each."""
    torch.manual_seed(0)
    return FoundationBackbone(BackboneConfig(), BackboneShape(rows, rows, 40, 40, SLOTS_USER, SLOTS_ITEM, sizes))


def features(n: int, users: int, rows: int) -> FeatureBatch:
    """Random features of `n` items for `users` users (1 or `n`)."""
    generator = torch.Generator().manual_seed(1)

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    return FeatureBatch(
        user=integers(rows, users),
        user_sparse=integers(40, users, sum(SLOTS_USER)),
        user_weight=torch.ones(users, sum(SLOTS_USER)),
        item=integers(rows, n),
        item_sparse=integers(40, n, sum(SLOTS_ITEM)),
        item_weight=torch.ones(n, sum(SLOTS_ITEM)) / 16,
        text=torch.randn(n, BackboneConfig().text_width, generator=generator),
        domain=torch.stack([integers(size, users) for size in SIZES], dim=1),
    )


def micro_batch(width: int, live: int) -> MicroBatch:
    """Random logged examples."""
    generator = torch.Generator().manual_seed(2)
    n, zero = EXAMPLES, torch.zeros(EXAMPLES)
    return MicroBatch(
        x=torch.randn(n, width, generator=generator).half().float(),
        live=0.1 * torch.randn(n, live, generator=generator),
        domain=torch.stack([torch.randint(size, (n,), generator=generator) for size in SIZES], dim=1),
        label=torch.randint(2, (n,), generator=generator).float(),
        conversion=zero, frozen_logit=zero, live_logit=zero, weight=torch.ones(n), time=zero.double(),
    )  # fmt: skip


def full_step(rows: int, *, dense_adam: bool) -> Callable[[], object]:
    """One step of full fine-tuning on 128 raw examples: Adam over everything, or sparse Adam for the ID tables."""
    model = backbone_of(rows).train()
    batch, label = features(EXAMPLES, EXAMPLES, rows), micro_batch(4, 1).label
    tables = [model.user_table, model.item_table]
    optimisers: list[torch.optim.Optimizer] = []
    if dense_adam:
        optimisers.append(torch.optim.Adam(model.parameters(), lr=1e-4, fused=True))
    else:
        for table in tables:
            table.sparse = True
        held = {id(table.weight) for table in tables}
        optimisers.append(torch.optim.SparseAdam([table.weight for table in tables], lr=1e-4))
        rest = [p for p in model.parameters() if id(p) not in held]
        optimisers.append(torch.optim.Adam(rest, lr=1e-4, fused=True))

    def step() -> None:
        loss = binary_cross_entropy_with_logits(model.predict(model.represent(batch), batch.domain)[:, 0], label)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers:
            optimiser.step()

    return step


def kernel_step(rows: int, live: int, config: KernelConfig | None = None) -> Callable[[], object]:
    """One learning step on 128 logged examples, without rehearsal."""
    backbone = backbone_of(rows).freeze()
    learner = Learner(
        backbone, config or KernelConfig(), LearnerConfig(rehearsal_steps=0), live_width=live, domain_sizes=SIZES
    )
    batch = micro_batch(backbone.width, live)
    return lambda: learner.learn(batch)


def _count(modules: Sequence[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in modules)


def parameters(console: Console, live: int) -> None:
    """How big."""
    backbone = backbone_of(1000)
    dense = backbone.dense_parameters()
    table = Table("kernel", "parameters", "share of the backbone's dense parameters", title="How big")
    for name, config in {
        "default": KernelConfig(),
        "reading A": KernelConfig(reading="A"),
        "reading B": KernelConfig(reading="B"),
        "one per period": KernelConfig(sharing="per_domain"),
        "shared and one per period": KernelConfig(sharing="both"),
    }.items():
        kernel = Kernel(config, width=backbone.width, live_width=live, domain_sizes=SIZES)
        size = _count(list(kernel.parameters()))
        table.add_row(name, f"{size:,}", f"{size / dense:.1%} of {dense:,}")
    console.print(table)


def learning(console: Console, live: int, largest: int) -> None:
    """A learning step, beside full fine-tuning, over table sizes."""
    table = Table(
        "rows per ID table", "kernel, ms", "full, sparse Adam, ms", "full, Adam, ms", "sparse/kernel", "Adam/kernel",
        title=f"One step on {EXAMPLES} examples, one thread",
    )  # fmt: skip
    for rows in (1_000, 100_000, 1_000_000, 10_000_000):
        if rows > largest:
            continue
        kernel = median_ms(kernel_step(rows, live))
        sparse = median_ms(full_step(rows, dense_adam=False), 12, 3) if rows <= 1_000_000 else float("nan")
        dense = median_ms(full_step(rows, dense_adam=True), 4, 1) if rows <= 1_000_000 else float("nan")
        full = (sparse, dense)
        cells = [*(_cell(ms, "") for ms in full), *(_cell(ms / kernel, " x") for ms in full)]
        table.add_row(f"{rows:,}", f"{kernel:.2f}", *cells)
    console.print(table)


def _cell(value: float, unit: str) -> str:
    return "not run" if math.isnan(value) else f"{value:.1f}{unit}"


def domains(console: Console, live: int) -> None:
    """64 domains against one: scoring one request, and a batch that mixes them all."""
    backbone = backbone_of(1000, (1, 64, 1)).freeze()
    batch = micro_batch(backbone.width, live)
    table = Table("domains in the bank", "one request, ms", "mixed batch, ms", title=f"{CANDIDATES} candidates, a bank")
    first: float | None = None
    for size in (1, 8, 64):
        config = KernelConfig(sharing="per_domain", bank_facets=("region",))
        kernel = Kernel(config, width=64, live_width=live, domain_sizes=(1, size, 1)).eval().requires_grad_(False)
        x, t = batch.x[:CANDIDATES], batch.live[:CANDIDATES]
        mixed = torch.zeros(CANDIDATES, 3, dtype=torch.int64)
        mixed[:, 1] = torch.arange(CANDIDATES) % size
        alone = torch.zeros(CANDIDATES, 3, dtype=torch.int64)
        alone[:, 1] = size - 1
        times = []
        for domain in (alone, mixed):
            with torch.inference_mode():
                times.append(median_ms(partial(live_logit, kernel, backbone, x, t, domain), 200))
        first = first or times[0]
        table.add_row(str(size), f"{times[0]:.3f} ({times[0] / first:.2f} x)", f"{times[1]:.3f}")
    console.print(table)


def scoring(console: Console, live: int) -> None:
    """The kernel on against off, for one request."""
    backbone = backbone_of(100_000).freeze()
    batch = features(CANDIDATES, 1, 100_000)
    kernel = Kernel(KernelConfig(), width=backbone.width, live_width=live, domain_sizes=SIZES).eval()
    kernel.requires_grad_(False)
    t, domain = torch.zeros(CANDIDATES, live), batch.domain.expand(CANDIDATES, -1)

    def frozen() -> object:
        x = round_representation(backbone.represent(batch))
        return backbone.predict(x, domain)

    def both() -> object:
        x = round_representation(backbone.represent(batch))
        frozen = backbone.predict(x, domain)[:, 0]
        return frozen, live_logit(kernel, backbone, x, t, domain, frozen)

    def live_only() -> object:
        x = round_representation(backbone.represent(batch))
        return live_logit(kernel, backbone, x, t, domain)

    with torch.inference_mode():
        times = {name: median_ms(work, 150) for name, work in (("frozen", frozen), ("live", live_only), ("both", both))}
    table = Table("arm", "ms", "against frozen", title=f"Model time of one request, {CANDIDATES} candidates")
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.2f}", f"{milliseconds / times['frozen']:.2f} x")
    console.print(table)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the four tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=10_000_000, help="most rows of an ID table")
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    console = Console()
    live = LiveLayout.of(LiveConfig(), BackboneConfig().content_width).width
    for part in (parameters, domains, scoring):
        part(console, live)
    learning(console, live, options.largest)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
