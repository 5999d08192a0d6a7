"""A backbone for one more scene: the old backbone's tables grow, and the levels that are not frozen are trained on the
scene's examples."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from model.backbone.dataset import ProfileTable, TrainingData, validation_cut
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.grown import GrownBackbone, grow
from model.backbone.levels import LEVELS, Level, level_of
from model.backbone.methods.method import MethodName, SceneEntry
from model.backbone.methods.scenes import BackboneWithScenes
from model.backbone.pretrain import ensure_judged
from model.backbone.report import PretrainReport, TrainingProgress
from model.backbone.schema import BackboneRefused
from model.backbone.statistics import FittedStatistics, fit_statistics
from model.backbone.trainer import Trainer
from model.config import PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.history import PastEvents
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.query import QueryFeatures

_STEPS_PER_PASS = 16
_SMALLEST_BATCH = 16


@dataclass(frozen=True)
class Transferred:
    """A backbone fine-tuned for a new scene."""

    backbone: FoundationBackbone
    encoder: FeatureEncoder
    """The old encoder, grown by the new names in the examples."""
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
    method: MethodName | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
    queries: Sequence[QueryFeatures] = (),
    past: PastEvents | None = None,
) -> Transferred:
    """A copy of `backbone` with one more scene, fitted to that scene's examples; the levels in `frozen` do not change.

    Without a `method` the other levels are trained for all scenes; with one, only the parameters that it adds are
    trained, for the new scene alone. All `examples` must have the index after the last declared scene. `click_rate` is
    the pretraining's. As in pretraining, the pass that validates best is kept, possibly the untrained one, and with
    `config.refit` a second training uses all examples. Content vectors are kept, so that live features stay comparable.
    `past` is what a user encoder reads before each example, by default the users' earlier `examples`. `backbone` is not
    changed. Raises ValueError for examples of another scene or encoder, and as `pretrain` does; BackboneRefused for a
    backbone with conversions or relevance if the examples have none, and for a method that does not fit.
    """
    _ensure_fits(backbone, examples)
    begun = clock.perf_counter()
    grown = encoder.grown(
        [users[index] for index in np.unique(examples.user)], [items[index] for index in np.unique(examples.item)]
    )
    data = TrainingData.of(examples, ProfileTable(grown, users, items, queries), backbone.config.history, past)
    config = _fitting(config, len(data))
    run = _FineTuning(backbone, encoder, grown, data, frozenset(frozen), config, click_rate, method)
    with torch.random.fork_rng(devices=[]):
        fitted = run.trained(validation_cut(examples, config.validation_share), progress)
        report = fitted.report
        if config.refit:
            fitted = run.trained(len(data), None, fitted.rounds)
            report.refit_examples = len(data)
    report.window = (float(examples.time[0]), float(examples.time[-1]))
    report.click_rate = click_rate
    report.seconds = clock.perf_counter() - begun
    return Transferred(fitted.model.freeze(), grown, report)


def _ensure_fits(backbone: FoundationBackbone, examples: Examples) -> None:
    """Raises ValueError or BackboneRefused for examples that the backbone cannot be tuned on."""
    if (examples.domain[:, 0] != backbone.shape.domain_sizes[0]).any():
        raise ValueError("examples of another scene: fine-tuning takes those of the new one alone")
    if backbone.has_conversion and examples.conversion is None:
        raise BackboneRefused(
            'the backbone was trained with backbone.tasks = "ctr_ctcvr", but the examples know of no conversions: its '
            "CVR would become 0 in silence; bring a stream that knows of them"
        )
    ensure_judged(backbone.config, examples)


@dataclass(frozen=True)
class _Fitted:
    """A fine-tuned model, not frozen yet."""

    model: FoundationBackbone
    rounds: tuple[PretrainReport, ...]
    """Reports of the training: one, or two if the method pruned its parameters and was trained again."""

    @property
    def report(self) -> PretrainReport:
        """The report of the last round, with the passes of all rounds in its history."""
        first, *again = self.rounds
        if not again:
            return first
        (last,) = again
        done = len(first.history)
        history = [*first.history, *({**at, "epoch": done + at["epoch"]} for at in last.history)]
        kept = done + last.best_epoch
        return replace(last, history=history, epochs=first.epochs + last.epochs, best_epoch=kept)


@dataclass(frozen=True)
class _FineTuning:
    """What the first training and the refit of one fine-tuning share."""

    backbone: FoundationBackbone
    before: FeatureEncoder
    after: FeatureEncoder
    data: TrainingData
    frozen: frozenset[Level]
    config: PretrainConfig
    click_rate: float
    method: MethodName | None

    def trained(
        self, cut: int, progress: Callable[[TrainingProgress], None] | None, like: Sequence[PretrainReport] = ()
    ) -> _Fitted:
        """The grown backbone, trained on the first `cut` examples until the rest validates no better, or as `like`
        was."""
        torch.manual_seed(self.config.seed)
        grown = grow(self.backbone, self.before, self.after)
        statistics = self._statistics(grown, cut)
        if self.method is None:
            for parameter in trainable(grown.model, self.frozen):
                parameter.requires_grad_(True)
            return _Fitted(grown.model, (self._round(grown.model, cut, statistics, progress, like[:1]),))
        model = BackboneWithScenes.of(grown.model)
        levels = tuple(level for level in LEVELS if level in self.frozen)
        method = model.add(SceneEntry(grown.scene, self.method, levels))
        network = model.network(method)
        start = {name: value.clone() for name, value in method.state_dict().items()}
        rounds = [self._round(network, cut, statistics, progress, like[:1])]
        if (like or rounds)[0].best_epoch and method.prune():
            rounds.append(self._round(network, cut, statistics, progress, like[1:]))
            if not like and rounds[1].validation_log_loss > rounds[0].history[0]["log_loss"]:
                method.load_state_dict(start)
                rounds = [self._round(network, cut, statistics, None, [PretrainReport()])]
        rounds[-1].trained_parameters = method.learned()
        return _Fitted(model, tuple(rounds))

    def _round(
        self,
        model: FoundationBackbone,
        cut: int,
        statistics: FittedStatistics | None,
        progress: Callable[[TrainingProgress], None] | None,
        like: Sequence[PretrainReport],
    ) -> PretrainReport:
        # Pretraining already scaled the towers; scaling them again would change frozen parameters.
        trainer = Trainer(model, self.data, cut, self.config, statistics=statistics, shares=(1.0,))
        trainer.validate()
        trainer.train(progress, like=like[0] if like else None)
        return trainer.report

    def _statistics(self, grown: GrownBackbone, cut: int) -> FittedStatistics | None:
        """Statistics of the first `cut` examples for new rows; old rows keep those of the pretraining."""
        old, data = grown.model.statistics, self.data.part(0, cut)
        if old is None:
            return None
        shape, aspects = grown.model.shape, self.backbone.config.item_aspects
        fitted = fit_statistics(shape, self.after, data, self.click_rate, aspects).behind(old, grown.new)
        old.load_state_dict(fitted.whole.state_dict())
        return fitted


def trainable(model: FoundationBackbone, frozen: Collection[Level]) -> list[nn.Parameter]:
    """The parameters outside the frozen levels."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if not name.startswith("scenes.") and level_of(name) not in frozen
    ]


def _fitting(config: PretrainConfig, examples: int) -> PretrainConfig:
    """Smaller batches, because a new scene has few examples and a pass needs several steps (ours)."""
    batch = min(config.batch_size, max(_SMALLEST_BATCH, math.ceil(examples / _STEPS_PER_PASS)))
    return config.model_copy(update={"batch_size": batch})
