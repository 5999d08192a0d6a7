"""A new scenario from an old backbone: its tables grow, and what is not frozen learns from the scenario's examples."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from model.backbone.dataset import Examples, ProfileTable, TrainingData, validation_cut
from model.backbone.foundation import FoundationBackbone
from model.backbone.grown import GrownBackbone, grow
from model.backbone.report import PretrainReport, TrainingProgress
from model.backbone.schema import BackboneRefused
from model.backbone.statistics import FittedStatistics, fit_statistics
from model.backbone.trainer import Trainer
from model.config import PretrainConfig
from model.encoding.features import FeatureEncoder, ItemFeatures, UserFeatures

Level = Literal["L0", "L1", "L2", "L3"]
"""Parts of the network that can be frozen: L0 text maps and tables; L1 encoding and fusion; L2 domain layer, experts
and gates, or two towers; L3 towers, or the dot product. The paper names the levels, what is in them is inferred."""
LEVELS: tuple[Level, ...] = get_args(Level)

_LEVEL_OF: dict[str, Level] = {
    "user_table": "L0", "item_table": "L0", "item_text": "L0", "query_text": "L0",
    "user_sparse.table": "L0", "item_sparse.table": "L0",
    "user_id": "L1", "item_id": "L1", "user_sparse.map": "L1", "item_sparse.map": "L1", "user_encoder": "L1",
    "user_fusion": "L1", "item_fusion": "L1",
    "domain_embedding": "L2", "domain_layer": "L2", "experts": "L2", "first_order": "L2",
    "user_tower": "L2", "item_tower": "L2",
    "towers": "L3",
}  # fmt: skip
_STEPS_PER_PASS = 16
_SMALLEST_BATCH = 16


@dataclass(frozen=True)
class Transferred:
    """A backbone for a new scene."""

    backbone: FoundationBackbone
    encoder: FeatureEncoder
    """The old one, grown by what is new in the examples."""
    report: PretrainReport


def fine_tune(
    backbone: FoundationBackbone,
    examples: Examples,
    users: Sequence[UserFeatures],
    items: Sequence[ItemFeatures],
    encoder: FeatureEncoder,
    *,
    frozen: Collection[Level],
    config: PretrainConfig,
    click_rate: float,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Transferred:
    """A copy of `backbone` with a scene more, fitted to that scene's examples; the levels of `frozen` stay as they are.

    `examples` all have the index behind the last declared scene. `click_rate` is that of the pretraining. Like
    pretraining it keeps the pass that validates best, here perhaps none, and with `config.refit` trains anew on all.
    Content vectors are kept, so that live features stay comparable. `backbone` stays as it is. Raises ValueError for
    examples of another scene or another encoder, and as `pretrain` does, and BackboneRefused for a backbone of
    conversions and examples that know of none.
    """
    if (examples.domain[:, 0] != backbone.shape.domain_sizes[0]).any():
        raise ValueError("examples of another scene: fine-tuning takes those of the new one alone")
    if backbone.has_conversion and examples.conversion is None:
        raise BackboneRefused(
            'the backbone was trained with backbone.tasks = "ctr_ctcvr", but the examples know of no conversions: its '
            "CVR would become 0 in silence; bring a stream that knows of them"
        )
    begun = clock.perf_counter()
    grown = encoder.grown(
        [users[index] for index in np.unique(examples.user)], [items[index] for index in np.unique(examples.item)]
    )
    data = TrainingData.of(examples, ProfileTable(grown, users, items), backbone.config.history)
    run = _FineTuning(backbone, encoder, grown, data, frozenset(frozen), _fitting(config, len(data)), click_rate)
    with torch.random.fork_rng(devices=[]):
        trainer = run.trained(validation_cut(examples, config.validation_share), progress)
        report = trainer.report
        if config.refit:
            trainer = run.trained(len(data), None, report)
            report.refit_examples = len(data)
    report.window = (float(examples.time[0]), float(examples.time[-1]))
    report.click_rate = click_rate
    report.seconds = clock.perf_counter() - begun
    return Transferred(trainer.model.freeze(), grown, report)


@dataclass(frozen=True)
class _FineTuning:
    """What the trainings of one fine-tuning share."""

    backbone: FoundationBackbone
    before: FeatureEncoder
    after: FeatureEncoder
    data: TrainingData
    frozen: frozenset[Level]
    config: PretrainConfig
    click_rate: float

    def trained(
        self, cut: int, progress: Callable[[TrainingProgress], None] | None, like: PretrainReport | None = None
    ) -> Trainer:
        """The grown backbone, trained on the first `cut` examples until it gets no better, or `like` before."""
        torch.manual_seed(self.config.seed)
        grown = grow(self.backbone, self.before, self.after)
        model, statistics = grown.model, self._statistics(grown, cut)
        for parameter in trainable(model, self.frozen):
            parameter.requires_grad_(True)
        # The towers were shrunk when they were pretrained; to do it again would change what is frozen.
        trainer = Trainer(model, self.data, cut, self.config, statistics=statistics, shares=(1.0,))
        trainer.validate()
        trainer.train(progress, like=like)
        return trainer

    def _statistics(self, grown: GrownBackbone, cut: int) -> FittedStatistics | None:
        """Of the first `cut` examples for the rows that are new; the old ones keep what pretraining counted."""
        old, data = grown.model.statistics, self.data.part(0, cut)
        if old is None:
            return None
        shape, aspects = grown.model.shape, self.backbone.config.item_aspects
        fitted = fit_statistics(shape, self.after, data, self.click_rate, aspects).behind(old, grown.new)
        old.load_state_dict(fitted.whole.state_dict())
        return fitted


def trainable(model: FoundationBackbone, frozen: Collection[Level]) -> list[nn.Parameter]:
    """The parameters that are left to train when the named levels are frozen."""
    return [parameter for name, parameter in model.named_parameters() if _level(name) not in frozen]


def _level(name: str) -> Level:
    return next(level for prefix, level in _LEVEL_OF.items() if name == prefix or name.startswith(f"{prefix}."))


def _fitting(config: PretrainConfig, examples: int) -> PretrainConfig:
    """A new scene has few examples: smaller batches, so that a pass has some steps (ours)."""
    batch = min(config.batch_size, max(_SMALLEST_BATCH, math.ceil(examples / _STEPS_PER_PASS)))
    return config.model_copy(update={"batch_size": batch})
