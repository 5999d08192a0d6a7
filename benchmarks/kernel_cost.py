"""Cost of the kernel: its size, scoring with it and a learning step, as ratios within one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.crossed import CROSSING, SPACE, item_values
from features.config import LiveConfig
from features.live.layout import LiveLayout
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import round_representation
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig, KernelConfig, LearnerConfig
from model.encoding.features import FeatureBatch
from model.kernel.batch import MicroBatch
from model.kernel.compatibility import dependencies
from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor
from model.kernel.features import FeatureMap
from model.kernel.kernel import Kernel
from model.kernel.learner import Learner, prior_precision
from model.kernel.record import KernelInfo, pack_kernel
from model.kernel.start import KernelStart

EXAMPLES, CANDIDATES, SIZES = 128, 100, SPACE.sizes
LAYOUT = LiveLayout.of(LiveConfig(), BackboneConfig().content_width, CROSSING)
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


def start_of(width: int) -> KernelStart:
    """A kernel start from representations of 500 made-up groups and the crossed values of MovieLens 100K."""
    rng = np.random.default_rng(0)
    group = np.arange(2_000) % 500
    x = (rng.normal(size=(500, width))[group] + rng.normal(size=(2_000, width))).astype(np.float32)
    shown = item_values(np.arange(1_682)).astype(np.intp)
    hot = np.zeros((len(shown), CROSSING.values + 1))
    np.put_along_axis(hot, shown, 1.0, axis=1)
    compression = Compression.fit(x, group, beta=KernelConfig().beta, rank=KernelConfig().rank)
    descriptor = Descriptor.fit(hot[:, :-1], rng.normal(size=1_682).astype(np.float32))
    residuals, counters = LAYOUT.residual_width, LAYOUT.width - LAYOUT.residual_width
    features = FeatureMap(compression, descriptor, residuals, counters)
    identity, prior = features.identity(), prior_precision(features)
    return KernelStart(
        compression, descriptor, LAYOUT.names, residuals, identity, identity[: features.direct], torch.diag(prior), 0
    )


def micro_batch(width: int, n: int = EXAMPLES) -> MicroBatch:
    """A micro-batch of `n` random examples."""
    generator = torch.Generator().manual_seed(2)
    zero = torch.zeros(n)
    return MicroBatch(
        x=torch.randn(n, width, generator=generator).half().float(),
        live=0.1 * torch.randn(n, LAYOUT.width, generator=generator),
        values=torch.from_numpy(item_values(np.arange(n))),
        domain=torch.stack([torch.randint(size, (n,), generator=generator) for size in SIZES], dim=1),
        label=torch.randint(2, (n,), generator=generator).float(),
        frozen_logit=torch.randn(n, generator=generator), live_logit=zero, weight=torch.ones(n),
        time=zero.double(),
    )  # fmt: skip


def full_step(rows: int, *, dense_adam: bool) -> Callable[[], object]:
    """One step of full fine-tuning on 128 raw examples, by Adam for all or sparse Adam for the ID tables."""
    model = backbone_of(rows).train()
    batch, label = features(EXAMPLES, EXAMPLES, rows), micro_batch(4).label
    assert model.item_table is not None
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


def learner_of(width: int) -> Learner:
    """A learner of the default configuration that has learned four batches."""
    learner = Learner(start_of(width), LearnerConfig(), fingerprint="f" * 64, domain_sizes=SIZES)
    for _ in range(4):
        learner.learn(micro_batch(width))
    return learner


def kernel_step(width: int, examples: int = EXAMPLES) -> Callable[[], object]:
    """One learning step on logged examples."""
    learner, batch = learner_of(width), micro_batch(width, examples)
    return lambda: learner.learn(batch)


def sizes(console: Console) -> None:
    """Prints sizes: of what is learned, what scorers follow, and what a restart needs."""
    backbone = backbone_of(1000)
    dense = backbone.dense_parameters()
    learner = learner_of(backbone.width)
    depends_on = dependencies(learner.start, SIZES)
    info = KernelInfo("main", 1, "f" * 64, newest_event_time=1.0, examples=learner.examples)
    record, snapshot = pack_kernel(learner.candidate, info, depends_on), learner.snapshot()
    table = Table("what", "size", title="How big")
    table.add_row("kernel, weights", f"{learner.start.features.width:,}")
    share = learner.start.features.width / dense
    table.add_row("share of the backbone's dense parameters", f"{share:.2%} of {dense:,}")
    table.add_row("kernel record", f"{len(record) / 1024:.1f} KiB")
    table.add_row("learner snapshot", f"{len(snapshot) / 1024:.1f} KiB")
    table.add_row("learning state in memory", f"{learner.state_bytes / 1024:.1f} KiB")
    console.print(table)


def learning(console: Console, largest: int) -> None:
    """A learning step, beside full fine-tuning, over table sizes."""
    table = Table(
        "rows per ID table", "kernel, ms", "full, sparse Adam, ms", "full, Adam, ms", "sparse/kernel", "Adam/kernel",
        title=f"One step on {EXAMPLES} examples, one thread",
    )  # fmt: skip
    kernel = median_ms(kernel_step(BackboneConfig().width))  # it reads no ID table: the same for all of them
    for rows in (1_000, 100_000, 1_000_000):
        if rows > largest:
            continue
        full = median_ms(full_step(rows, dense_adam=False), 12, 3), median_ms(full_step(rows, dense_adam=True), 4, 1)
        ratios = (f"{ms / kernel:.1f} x" for ms in full)
        table.add_row(f"{rows:,}", f"{kernel:.2f}", *(f"{ms:.1f}" for ms in full), *ratios)
    console.print(table)
    most = LearnerConfig().batch_examples
    whole = median_ms(kernel_step(BackboneConfig().width, most))
    each = whole * EXAMPLES / most
    console.print(f"the kernel's step on {most} examples: {whole:.2f} ms, {each:.2f} ms for each {EXAMPLES} of them")


def scoring(console: Console) -> None:
    """Prints the time that the kernel adds to the models' time of one request."""
    backbone = backbone_of(100_000).freeze()
    batch = features(CANDIDATES, 1, 100_000)
    start, domain = start_of(backbone.width), batch.domain.expand(CANDIDATES, -1)
    generator = torch.Generator().manual_seed(3)
    kernel = Kernel(start, start.mean + 0.1 * torch.randn(start.mean.shape, generator=generator))
    inputs = micro_batch(backbone.width, CANDIDATES).inputs

    def frozen() -> object:
        return backbone.predict(round_representation(backbone.represent(batch)), domain)

    def alone() -> object:
        return kernel.logit(inputs)

    def both() -> object:
        return frozen(), alone()

    with torch.inference_mode():
        works = (("frozen model", frozen), ("kernel alone", alone), ("both", both))
        times = {name: median_ms(work, 200) for name, work in works}
    table = Table("what", "ms", "against the frozen model", title=f"Model time of one request, {CANDIDATES} candidates")
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.3f}", f"{milliseconds / times['frozen model']:.2f} x")
    console.print(table)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the tables of sizes, learning time and scoring time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1_000_000, help="most rows of an ID table")
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    console = Console()
    sizes(console)
    scoring(console)
    learning(console, options.largest)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
