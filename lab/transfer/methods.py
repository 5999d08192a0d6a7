"""Ways from one source backbone to a target: unchanged, kernel alone, fine-tuned with frozen levels, from scratch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.plan import Plan
from lab.evaluate.pretrained import Pretrained
from lab.fine_tuning.curve import SCENE_METHODS, SEQUENCE_METHODS, methods_for
from lab.fine_tuning.scratch import from_scratch
from lab.transfer.kernel import adapt_further, adapt_kernel
from lab.transfer.scoring import Asked, TargetTrial, TransferRow
from lab.transfer.task import PartedStream
from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.backbone.levels import Level
from model.backbone.methods.method import MethodName
from model.backbone.trainer import logits_of
from model.backbone.transfer import fine_tune
from model.config import PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures

ZERO_SHOT, KERNEL_STOPPED, KERNEL_LIVE = "zero-shot", "kernel", "kernel, going on"
POPULARITY, SCRATCH = "popularity", "from scratch"
FREEZE: dict[str, tuple[Level, ...]] = {
    "fine-tune, L0 to L2 frozen": ("L0", "L1", "L2"),
    "fine-tune, L0 and L1 frozen": ("L0", "L1"),
    "fine-tune, none frozen": (),
}
METHODS = (POPULARITY, ZERO_SHOT, KERNEL_STOPPED, KERNEL_LIVE, *FREEZE, *SCENE_METHODS, *SEQUENCE_METHODS, SCRATCH)


@dataclass(frozen=True)
class SourceModel:
    """A pretrained source with all profiles."""

    plan: Plan
    source: PartedStream
    seed: int
    pretrained: Pretrained
    users: list[UserFeatures]
    items: list[ItemFeatures]

    @property
    def backbone(self) -> FoundationBackbone:
        """The source backbone, from which all methods start."""
        assert isinstance(self.pretrained.backbone, FoundationBackbone)
        return self.pretrained.backbone

    @property
    def config(self) -> PretrainConfig:
        """The training settings of all methods."""
        config = self.plan.config.pretrain
        return config.model_copy(update={"seed": config.seed + self.seed})

    @property
    def scene(self) -> int:
        """Index of the scene that every target is to what learns from it."""
        return self.source.catalogue.space.sizes[0]


def tried(origin: SourceModel, trial: TargetTrial) -> Iterator[TransferRow]:
    """A row per method that the backbone can take, in the order of `METHODS`."""
    yield _popularity(origin, trial)
    backbone, encoder = origin.backbone, origin.pretrained.encoder
    yield _row(origin, trial, ZERO_SHOT, lambda part: _logits(origin, backbone, encoder, part), 0.0, 0)
    yield from _kernels(origin, trial)
    learned = trial.train.in_scene(origin.scene)
    for method, frozen in FREEZE.items():
        yield _trained(origin, trial, method, partial(_tuned, origin, learned, frozen))
    for method in methods_for(origin.backbone.config):
        yield _trained(origin, trial, method, partial(_tuned, origin, learned, (), method))
    yield _trained(origin, trial, SCRATCH, partial(_from_scratch, origin, learned), alone=True)


def _row(  # noqa: PLR0917 -- the columns of a row
    origin: SourceModel,
    trial: TargetTrial,
    method: str,
    logits: Callable[[Asked], NDArray[np.float32]],
    cpu_s: float,
    trained: int,
    *,
    probable: bool = True,
) -> TransferRow:
    scored = logits(trial.test), logits(trial.catalogue)
    return trial.row(origin.source.name, origin.seed, method, *scored, cpu_s, trained, probable=probable)


def _popularity(origin: SourceModel, trial: TargetTrial) -> TransferRow:
    """The most clicked items of the target's first half: no model, and the least that any ranking must beat."""
    learned = trial.train.examples
    clicks = np.bincount(learned.item, learned.label, minlength=len(origin.items)).astype(np.float32)
    return _row(origin, trial, POPULARITY, lambda part: clicks[part.examples.item], 0.0, 0, probable=False)


def _kernels(origin: SourceModel, trial: TargetTrial) -> Iterator[TransferRow]:
    """The kernel as of the end of the first half, and one that keeps learning, which has no catalogue figures."""
    shared = origin.plan, origin.source, trial.target, origin.pretrained, origin.seed
    kernel = adapt_kernel(*shared)
    yield _row(origin, trial, KERNEL_STOPPED, kernel.logits, kernel.outcome.cpu_s, kernel.adapter.parameters)
    adapter, outcome = adapt_further(*shared)
    logit = outcome.logit[-len(trial.test.examples) :]
    name = origin.source.name
    yield trial.row(name, origin.seed, KERNEL_LIVE, logit, None, outcome.cpu_s, adapter.parameters)


_Made = tuple[FoundationBackbone, FeatureEncoder, int]


def _trained(
    origin: SourceModel, trial: TargetTrial, method: str, make: Callable[[], _Made], *, alone: bool = False
) -> TransferRow:
    """The figures of a model that knows the target as a scene of its own; `alone`, nothing of the source."""
    begun = time.process_time()
    backbone, encoder, trained = make()
    spent = time.process_time() - begun

    def logits(part: Asked) -> NDArray[np.float32]:
        known = replace(part, past=part.own) if alone else part
        return _logits(origin, backbone, encoder, known.in_scene(origin.scene))

    return _row(origin, trial, method, logits, spent, trained)


def _logits(origin: SourceModel, backbone: FrozenBackbone, encoder: FeatureEncoder, part: Asked) -> NDArray[np.float32]:
    """Click logits, `(n,)`."""
    data = TrainingData.of(part.examples, ProfileTable(encoder, origin.users, origin.items), past=part.past)
    return logits_of(backbone, data)[:, 0]


def _tuned(origin: SourceModel, learned: Asked, frozen: tuple[Level, ...], method: MethodName | None = None) -> _Made:
    rate = float(origin.pretrained.log.examples.label.mean())
    made = fine_tune(
        origin.backbone, learned.examples, origin.users, origin.items, origin.pretrained.encoder,
        frozen=frozen, config=origin.config, click_rate=rate, method=method, past=learned.past,
    )  # fmt: skip
    return made.backbone, made.encoder, made.report.trained_parameters


def _from_scratch(origin: SourceModel, learned: Asked) -> _Made:
    old = origin.backbone, origin.pretrained.encoder
    backbone, encoder, report = from_scratch(learned.examples, origin.users, origin.items, old, origin.config)
    return backbone, encoder, report.trained_parameters
