"""Pretraining of the foundation backbone, and its fine-tuning for a new scenario."""

from __future__ import annotations

import copy
import hashlib
import json
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from model.backbone.content import fit_content
from model.backbone.dataset import Examples, ProfileTable, TrainingData, validation_cut
from model.backbone.encoders.cloze import cloze_pretrain
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.backbone.own import pretrain_own
from model.backbone.report import PretrainReport, TrainingProgress
from model.backbone.schema import BackboneRefused
from model.backbone.shape import BackboneShape
from model.backbone.statistics import FittedStatistics, fit_statistics
from model.backbone.trainer import Trainer
from model.config import BackboneConfig, PretrainConfig, unfed_keys
from model.encoding.domain import FACETS
from model.encoding.features import FeatureEncoder, ItemFeatures, UserFeatures

__all__ = [
    "FreezeLevel",
    "PretrainReport",
    "TrainingProgress",
    "fine_tune",
    "pretrain",
    "pretrain_backbone",
    "trainable_after",
]

FreezeLevel = Literal["none", "L0", "L1", "L2", "all"]
"""What fine-tuning keeps: nothing; L0 text and tables; L1 also encoding and fusion; L2 also the domain layer, experts
and gates, so that the towers alone learn; all (L0 to L3) is the pretrained model as it is. The paper names the levels,
what is in them is inferred."""

_LEVELS: dict[str, int] = {
    "user_table": 0, "item_table": 0, "item_text": 0, "query_text": 0, "user_sparse.table": 0, "item_sparse.table": 0,
    "user_id": 1, "item_id": 1, "user_sparse.map": 1, "item_sparse.map": 1, "user_encoder": 1,
    "user_fusion": 1, "item_fusion": 1,
    "domain_embedding": 2, "domain_layer": 2, "experts": 2, "first_order": 2,
    "towers": 3,
}  # fmt: skip


def pretrain_backbone(
    examples: Examples,
    users: Sequence[UserFeatures],
    items: Sequence[ItemFeatures],
    encoder: FeatureEncoder,
    *,
    domain_sizes: tuple[int, int, int],
    backbone: BackboneConfig,
    config: PretrainConfig,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> tuple[FrozenBackbone, PretrainReport]:
    """The backbone that the configuration asks for: that of `backbone.factory` if it is set, else the foundation model.

    Raises BackboneRefused for keys that nothing feeds yet, for conversions that the examples do not hold, and for an
    own backbone that cannot be used, ValueError as `pretrain` does.
    """
    if problems := unfed_keys(backbone):
        raise BackboneRefused("; ".join(problems))
    ensure_converted(backbone, examples)
    if backbone.factory:
        shape = BackboneShape.of(encoder, domain_sizes)
        data = TrainingData.of(examples, ProfileTable(encoder, users, items), backbone.history)
        cut = validation_cut(examples, config.validation_share)
        own, report = pretrain_own(data, cut, encoder, shape, backbone, config)
        report.window = (float(examples.time[0]), float(examples.time[-1]))
        return own, report
    return pretrain(
        examples, users, items, encoder, domain_sizes=domain_sizes, backbone=backbone, config=config, progress=progress
    )


def ensure_converted(backbone: BackboneConfig, examples: Examples) -> None:
    """Raises BackboneRefused if conversions are to be learned from none: CVR would become 0 in silence."""
    if backbone.tasks == "ctr_ctcvr" and (examples.conversion is None or not examples.conversion.any()):
        raise BackboneRefused(
            'backbone.tasks is "ctr_ctcvr", but none of the examples is a conversion: bring a stream whose first half '
            'has some, or set backbone.tasks = "ctr"'
        )


def pretrain(
    examples: Examples,
    users: Sequence[UserFeatures],
    items: Sequence[ItemFeatures],
    encoder: FeatureEncoder,
    *,
    domain_sizes: tuple[int, int, int],
    backbone: BackboneConfig,
    config: PretrainConfig,
    progress: Callable[[TrainingProgress], None] | None = None,
    resume: Path | None = None,
) -> tuple[FoundationBackbone, PretrainReport]:
    """Trains on all but the last `validation_share` of the examples, stops early on it, and freezes the best pass.

    With `config.refit`, a second model is then trained on all examples for the best number of passes and frozen instead
    (docs/decisions/0067). The examples may mix any number of domains. With `resume`, the state is kept in that file
    (and of the refit beside it) after each pass, and an interrupted run is taken up from there, bit for bit. The
    caller's random state is left as it was. Raises ValueError if a part of the split would be empty, ResumeError if the
    file belongs to another run.
    """
    begun = clock.perf_counter()
    profiles = ProfileTable(encoder, users, items)
    data = TrainingData.of(examples, profiles, backbone.history)
    run = _Run(data, encoder, domain_sizes, backbone, config, _run_name(examples, encoder, backbone, config))
    refit = resume and resume.with_name(f"{resume.name}.refit")
    with torch.random.fork_rng(devices=[]):
        trainer = run.trained(validation_cut(examples, config.validation_share), progress, resume)
        report = trainer.report
        if config.refit:
            trainer = run.trained(len(data), _going_on(progress, trainer.steps_done), refit, report)
            report.refit_examples = len(data)
        model = trainer.model
        seen, steps = run.statistics(len(data)), config.content_steps
        content = fit_content(model, profiles, examples, seed=config.seed, steps=steps, statistics=seen)
    for path in (resume, refit):
        if path is not None:
            path.unlink(missing_ok=True)
    report.content = asdict(content)
    report.window = (float(examples.time[0]), float(examples.time[-1]))
    report.seconds = clock.perf_counter() - begun
    return model.freeze(), report


@dataclass(frozen=True)
class _Run:
    """What both trainings of a pretraining share."""

    data: TrainingData
    encoder: FeatureEncoder
    domain_sizes: tuple[int, int, int]
    backbone: BackboneConfig
    config: PretrainConfig
    name: str

    @property
    def shape(self) -> BackboneShape:
        """Sizes of the tables."""
        return BackboneShape.of(self.encoder, self.domain_sizes)

    def statistics(self, cut: int) -> FittedStatistics | None:
        """Of the first `cut` examples, where the backbone reads statistics."""
        if not self.backbone.target_statistics:
            return None
        return fit_statistics(self.shape, self.encoder, self.data.part(0, cut))

    def trained(
        self,
        cut: int,
        progress: Callable[[TrainingProgress], None] | None,
        resume: Path | None,
        like: PretrainReport | None = None,
    ) -> Trainer:
        """A new model, trained on the first `cut` examples: until it gets no better on the rest, or `like` before."""
        torch.manual_seed(self.config.seed)
        model = FoundationBackbone(
            self.backbone, BackboneShape.of(self.encoder, self.domain_sizes), self.encoder.digest
        )
        statistics = self.statistics(cut)
        if statistics is not None:
            model.begin_with(statistics, self.data.part(0, cut))
        if model.user_encoder is not None and not (resume and resume.exists()):
            cloze_pretrain(model.user_encoder, model.item_table, self.data.part(0, cut), self.config)
        trainer = Trainer(model, self.data, cut, self.config, f"{self.name} {cut}", statistics)
        trainer.train(progress, resume, like)
        return trainer


def _going_on(
    progress: Callable[[TrainingProgress], None] | None, done: int
) -> Callable[[TrainingProgress], None] | None:
    """The same callback for a training that follows `done` steps."""
    if progress is None:
        return None
    return lambda at: progress(replace(at, step=at.step + done, steps=at.steps + done))


def fine_tune(
    backbone: FoundationBackbone,
    examples: Examples,
    users: Sequence[UserFeatures],
    items: Sequence[ItemFeatures],
    encoder: FeatureEncoder,
    *,
    freeze: FreezeLevel,
    config: PretrainConfig,
    new_scene: int | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> tuple[FoundationBackbone, PretrainReport]:
    """A copy of `backbone` fitted to a scenario's own examples with the named levels frozen; `backbone` stays as it is.

    `new_scene` is the index of a scene that pretraining has not seen: its domain parameters start from the mean of the
    others'. Content vectors are kept, so that live features stay comparable. Raises ValueError as `pretrain` does, and
    BackboneRefused for a backbone of conversions and examples without any.
    """
    ensure_converted(backbone.config, examples)
    if encoder.digest != backbone.encoder_digest:
        raise ValueError("this encoder is not the one the backbone was pretrained with")
    begun = clock.perf_counter()
    model = copy.deepcopy(backbone)
    model.requires_grad_(False)
    if new_scene is not None:
        _adopt_scene(model, new_scene)
    for parameter in trainable_after(model, freeze):
        parameter.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        data = TrainingData.of(examples, ProfileTable(encoder, users, items), backbone.config.history)
        trainer = Trainer(model, data, validation_cut(examples, config.validation_share), config)
        if freeze == "all":
            trainer.validate_only()
        else:
            trainer.train(progress)
    trainer.report.window = (float(examples.time[0]), float(examples.time[-1]))
    trainer.report.seconds = clock.perf_counter() - begun
    return model.freeze(), trainer.report


def trainable_after(model: FoundationBackbone, freeze: FreezeLevel) -> list[nn.Parameter]:
    """The parameters that are left to train when the named levels are frozen."""
    kept = {"none": -1, "L0": 0, "L1": 1, "L2": 2, "all": 3}[freeze]
    return [parameter for name, parameter in model.named_parameters() if _level(name) > kept]


def _level(name: str) -> int:
    return next(level for prefix, level in _LEVELS.items() if name == prefix or name.startswith(f"{prefix}."))


@torch.no_grad()
def _adopt_scene(model: FoundationBackbone, scene: int) -> None:
    """Domain parameters of a new scene are the mean of the declared others' (index 0 is `unknown`)."""
    count = model.shape.domain_sizes[FACETS.index("scene")]
    if not 0 < scene < count:
        raise ValueError(f"scene index {scene} is not declared: the backbone knows 1 to {count - 1}")
    others = [index for index in range(1, count) if index != scene] or [0]
    tables = [model.domain_embedding.tables[0]]
    if model.domain_layer.kind != "none":
        tables.append(model.domain_layer.tables[0])
    for table in tables:
        assert isinstance(table, nn.Embedding)
        table.weight[scene] = table.weight[others].mean(0)


def _run_name(examples: Examples, encoder: FeatureEncoder, backbone: BackboneConfig, config: PretrainConfig) -> str:
    """A hash of all that decides the result."""
    digest = hashlib.sha256(encoder.digest.encode())
    digest.update(json.dumps([backbone.model_dump(), config.model_dump()], sort_keys=True).encode())
    for column in (examples.user, examples.item, examples.domain, examples.label, examples.time, examples.conversion):
        digest.update(b"" if column is None else column.tobytes())
    return digest.hexdigest()
