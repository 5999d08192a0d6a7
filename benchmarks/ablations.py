"""What each part of the model brings on MovieLens 100K: one table per question, mean and spread over seeds.

`python -m benchmarks --only ablations` runs all of it; results are kept in `runs/ablations/` and a second run only
fills what is missing. `--write docs/ablations.md` renews the page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from benchmarks.stream import World, play, served
from model.backbone.dataset import ProfileTable
from model.backbone.foundation import FoundationBackbone
from model.backbone.pretrain import FreezeLevel, fine_tune, pretrain
from model.config import BackboneConfig, KernelConfig, LearnerConfig, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.evaluation import auc
from model.kernel.batch import MicroBatch

RUNS = Path("runs/ablations")
SEEDS = (7, 8, 9)
_DECIDE = (
    "alignment", "arms", "backbone", "bank", "batch", "birth", "bottleneck", "closed_path", "content", "dataset",
    "features", "fusion", "kernel", "kernel_core", "learner", "losses", "optimiser", "path_features", "pretrain",
    "rehearsal", "trainer", "trunk", "trust", "vocabulary",
)  # fmt: skip
NEW_REGIONS = (9, 10)
"""Facet indices of the regions zip8 and zip9: the scenario that pretraining does not see."""


@dataclass(frozen=True)
class Question:
    """One table."""

    name: str
    kind: str
    """What is varied: kernel, backbone or freeze."""
    note: str
    variants: dict[str, dict[str, Any]]


def _kernel(**changes: Any) -> dict[str, Any]:
    return {"kernel": changes}


def _learner(**changes: Any) -> dict[str, Any]:
    return {"learner": changes}


def _both(kernel: dict[str, Any], learner: dict[str, Any]) -> dict[str, Any]:
    return {"kernel": kernel, "learner": learner}


ALONE = {"learning_rate": 3e-4}
"""A core without a closed-form path beside it has all to learn, and wants a larger rate."""

QUESTIONS = (
    Question("readings", "kernel", "Gaussian of the bottleneck; weights are the defaults of beta, l1 and l2", {
        "A": _kernel(reading="A"), "B": _kernel(reading="B"), "D (default)": {},
    }),
    Question("straight path", "kernel", "how the path to the logit learns, beside the core", {
        "in closed form over x, T and products (default)": {}, "the same, one memory of 2 000 examples":
        _learner(path_half_lives=(2_000.0,)), "the same, one memory of 20 000 examples":
        _learner(path_half_lives=(20_000.0,)), "the same without products": _kernel(path_products=0),
        "the same with 256 products": _kernel(path_products=256),
        "by gradient over T": _both({"path": "gradient"}, ALONE),
        "by gradient over T, three rehearsal steps": _both({"path": "gradient"}, {**ALONE, "rehearsal_steps": 3}),
        "none": _both({"path": "none"}, ALONE), "in closed form, no core": _learner(learning_rate=1e-12),
    }),
    Question("trust", "kernel", "whether frozen model and kernel are mixed by how well each has predicted", {
        "mixed (default)": {}, "the kernel is always believed": _kernel(use_trust=False),
        "by gradient over T, three rehearsal steps, always believed":
        _both({"path": "gradient", "use_trust": False}, {**ALONE, "rehearsal_steps": 3}),
    }),
    Question("live features", "kernel", "T in the decoder and in the straight path", {
        "both (default)": {}, "decoder alone, no path": _both({"path": "none"}, ALONE),
        "no T at all": _kernel(use_live=False), "no T and no path": _both({"use_live": False, "path": "none"}, ALONE),
    }),
    Question("plug point", "kernel", "where the kernel sits", {
        "before the trunk (default)": {}, "after it": _kernel(plug="after"), "both": _kernel(plug="both"),
    }),
    Question("plug point without T", "kernel", "the same, the core on its own", {
        "before the trunk": _both({"use_live": False, "path": "none"}, ALONE),
        "after it": _both({"plug": "after", "use_live": False, "path": "none"}, ALONE),
    }),
    Question("sharing", "kernel", "one kernel with domain parameters, one per period, or their sum", {
        "shared (default)": {}, "per period": _kernel(sharing="per_domain"), "both": _kernel(sharing="both"),
    }),
    Question("rehearsal", "kernel", "steps on recent micro-batches after each new one", {
        "0 (default)": {}, "1": _learner(rehearsal_steps=1), "3": _learner(rehearsal_steps=3),
        "6": _learner(rehearsal_steps=6),
        "3, equal budgets per domain": _learner(rehearsal_steps=3, rehearsal_plan="per_domain"),
    }),
    Question("evidence", "kernel", "examples before the kernel answers for a domain", {
        "0 (default)": {}, "50": _kernel(min_evidence=50), "50, initialised from the nearest":
        _kernel(min_evidence=50, new_domain_init="nearest"),
    }),
    Question("gating", "backbone", "aspect fusion, frozen AUC on the live half", {
        "plain mean": {"gating": "plain"}, "mean-gating": {"gating": "mean"}, "cls-gating": {"gating": "cls"},
        "domain-gating (default)": {},
    }),
    Question("alignment", "backbone", "divergence between the domains' representations", {
        "none (default)": {}, "Jensen-Shannon": {"alignment": "js"}, "MMD": {"alignment": "mmd"},
    }),
    Question("domain map", "backbone", "domain-specific linear maps", {
        "none": {"domain_map": "none"}, "scale and shift (default)": {}, "a matrix per value": {"domain_map": "full"},
    }),
    Question("trunk", "backbone", "network between representation and towers", {
        "MLP": {"trunk": "mlp"}, "MMoE (default)": {}, "PLE": {"trunk": "ple"},
    }),
    Question("freeze levels", "freeze", "users of two regions as a new scenario; AUC on their live half", {
        "full fine-tuning": {"freeze": "none"}, "L0 frozen": {"freeze": "L0"}, "L0-L1 frozen": {"freeze": "L1"},
        "L0-L2 frozen": {"freeze": "L2"}, "not fine-tuned": {"freeze": "all"},
    }),
)  # fmt: skip


def _file(kind: str, seed: int, settings: dict[str, Any]) -> Path:
    text = json.dumps([kind, seed, settings, _code()], sort_keys=True)
    return RUNS / f"{kind}-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _code() -> str:
    """A hash of the code and the defaults that decide a result: those of another state do not count."""
    digest = hashlib.sha256()
    for name in _DECIDE:
        digest.update(Path("model", f"{name}.py").read_bytes())
    for config in (BackboneConfig(), PretrainConfig(), KernelConfig(), LearnerConfig()):
        digest.update(config.model_dump_json().encode())
    return digest.hexdigest()


def _live_half(world: World, encoder: FeatureEncoder, model: FoundationBackbone, keep: Callable[[Any], Any]) -> float:
    """Frozen AUC over the live half's ratings; `keep` turns facet indices into (indices, mask)."""
    profiles = ProfileTable(encoder, world.users, world.items)
    examples = world.examples_of(world.data.half("live"))
    domain, mask = keep(examples.domain)
    columns = (examples.user[mask], examples.item[mask], domain[mask])
    with torch.no_grad():
        batch = profiles.batch(*(torch.from_numpy(column) for column in columns))
        logits = model.predict(model.represent(batch), batch.domain)[:, 0]
    return auc(examples.label[mask], logits.numpy())


def run_kernel(world: World, seed: int, variants: Iterable[dict[str, Any]]) -> None:
    """All kernel variants on one backbone."""
    missing = [settings for settings in variants if not _file("kernel", seed, settings).exists()]
    if not missing:
        return
    backbone, _ = world.pretrained(config=PretrainConfig(seed=seed))
    stream: MicroBatch = served(world, backbone)
    for settings in missing:
        kernel = KernelConfig(**settings.get("kernel", {}))
        learner = LearnerConfig(**{"seed": seed, **settings.get("learner", {})})
        arms, grown = play(stream, backbone, kernel, learner, world.config.domain_space().sizes)
        size = grown.parameters
        _keep("kernel", seed, settings, {**arms.summary(), "parameters": size})


def run_backbone(world: World, seed: int, variants: Iterable[dict[str, Any]]) -> None:
    """All backbone variants."""
    for settings in variants:
        if _file("backbone", seed, settings).exists():
            continue
        config = world.config.backbone.model_copy(update=settings)
        model, report = world.pretrained(config, PretrainConfig(seed=seed, content_steps=0))
        area = _live_half(world, world.encoder, model, lambda domain: (domain, np.ones(len(domain), dtype=bool)))
        found = {"auc_frozen": area, "auc_validation": report.validation_auc, "parameters": model.dense_parameters()}
        _keep("backbone", seed, settings, found)


def _as_scenario(domain: Any) -> tuple[Any, Any]:
    new = np.isin(domain[:, 1], NEW_REGIONS)
    moved = domain.copy()
    moved[new, 0], moved[new, 1] = 2, 0
    return moved, new


def run_freeze(world: World, seed: int, variants: Iterable[dict[str, Any]]) -> None:
    """Pretraining without two regions, then fine-tuning on them as a scene of their own."""
    missing = [settings for settings in variants if not _file("freeze", seed, settings).exists()]
    if not missing:
        return
    examples = world.examples
    domain, new = _as_scenario(examples.domain)
    old_half = replace(examples, domain=domain).select(np.flatnonzero(~new))
    scenario = replace(examples, domain=domain).select(np.flatnonzero(new))
    known = sorted(set(old_half.user.tolist()))
    features = world.config.features
    encoder = FeatureEncoder.fit(
        [world.users[place] for place in known],
        [world.items[place] for place in sorted(set(old_half.item.tolist()))],
        user_fields=features.user_fields,
        item_fields=features.item_fields,
        text_width=world.config.backbone.text_width,
    )
    sizes = world.config.domain_space().sizes
    config = PretrainConfig(seed=seed, content_steps=0)
    base, _ = pretrain(
        old_half, world.users, world.items, encoder, domain_sizes=(3, sizes[1], sizes[2]),
        backbone=world.config.backbone, config=config,
    )  # fmt: skip
    slow = config.model_copy(update={"learning_rate": 5e-4})
    for settings in missing:
        level: FreezeLevel = settings["freeze"]
        tuned, report = fine_tune(
            base, scenario, world.users, world.items, encoder, freeze=level, config=slow, new_scene=2
        )
        found = {"auc_frozen": _live_half(world, encoder, tuned, _as_scenario), "parameters": report.trained_parameters}
        _keep("freeze", seed, settings, found)


def _keep(kind: str, seed: int, settings: dict[str, Any], found: dict[str, float]) -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    _file(kind, seed, settings).write_text(json.dumps(found, indent=1))


RUNNERS = {"kernel": run_kernel, "backbone": run_backbone, "freeze": run_freeze}


def _work(task: tuple[str, int]) -> tuple[str, int]:
    kind, seed = task
    torch.set_num_threads(1)
    variants = [v for question in QUESTIONS if question.kind == kind for v in question.variants.values()]
    unique = list({json.dumps(v, sort_keys=True): v for v in variants}.values())
    RUNNERS[kind](World.load(), seed, unique)
    return task


def _rows(question: Question, seeds: Sequence[int]) -> list[list[str]]:
    rows = []
    for name, settings in question.variants.items():
        files = [_file(question.kind, seed, settings) for seed in seeds]
        found = [json.loads(file.read_text()) for file in files if file.exists()]
        if not found:
            continue
        row = [name, f"{round(np.mean([f['parameters'] for f in found])):,}"]
        if question.kind == "kernel":
            row += [_spread([f["auc_live"] for f in found]), _spread([f["gain"] for f in found], sign="+")]
            row += [_spread([f["log_loss_live"] for f in found])]
        else:
            row += [_spread([f["auc_frozen"] for f in found])]
        rows.append([*row, str(len(found))])
    return rows


def _spread(values: Sequence[float], sign: str = "") -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):{sign}.4f} ± {deviation:.4f}"


def _heads(question: Question) -> list[str]:
    if question.kind == "kernel":
        return ["variant", "kernel parameters", "AUC live", "gain over frozen", "log loss live", "seeds"]
    size = "dense parameters" if question.kind == "backbone" else "trained parameters"
    return ["variant", size, "AUC", "seeds"]


def show(console: Console, seeds: Sequence[int]) -> None:
    """All tables."""
    for question in QUESTIONS:
        table = Table(*_heads(question), title=f"{question.name}: {question.note}")
        for row in _rows(question, seeds):
            table.add_row(*row)
        console.print(table)


def markdown(seeds: Sequence[int]) -> str:
    """The same as Markdown tables."""
    parts = []
    for question in QUESTIONS:
        heads = _heads(question)
        lines = [
            f"### {question.name[0].upper() + question.name[1:]}",
            "",
            f"{question.note[0].upper()}{question.note[1:]}.",
            "",
        ]
        lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [f"| {' | '.join(row)} |" for row in _rows(question, seeds)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


MARK = "<!-- tables: python -m benchmarks.ablations --write docs/ablations.md -->"


def write(page: Path, seeds: Sequence[int]) -> None:
    """Renews what stands below the mark in `page`."""
    head = page.read_text().split(MARK)[0] if page.exists() else "# Ablations\n\n"
    page.write_text(f"{head}{MARK}\n\n{markdown(seeds)}")


def main(arguments: Sequence[str] = ()) -> int:
    """Fills what is missing, then prints every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--kinds", nargs="+", default=list(RUNNERS), choices=list(RUNNERS))
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--write", type=Path, help="a page whose tables are renewed")
    parser.add_argument("--show", action="store_true", help="print what there is, run nothing")
    options = parser.parse_args(list(arguments))
    console = Console()
    tasks = [(kind, seed) for seed in options.seeds for kind in options.kinds]
    if not options.show:
        context = multiprocessing.get_context("spawn")
        with Bar(console=console) as bar, context.Pool(options.workers) as pool:
            progress = bar.add_task("ablations", total=len(tasks))
            for kind, seed in pool.imap_unordered(_work, tasks):
                bar.update(progress, advance=1, description=f"{kind}, seed {seed}")
    show(console, options.seeds)
    if options.write:
        write(options.write, options.seeds)
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
