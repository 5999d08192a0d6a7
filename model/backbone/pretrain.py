"""Pretraining of the foundation backbone."""

from __future__ import annotations

import hashlib
import json
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from model.backbone.content import fit_content
from model.backbone.custom import pretrain_custom
from model.backbone.dataset import ProfileTable, TrainingData, validation_cut
from model.backbone.dssm import make_foundation
from model.backbone.encoders.cloze import cloze_pretrain
from model.backbone.encoders.clue import clue_pretrain
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.backbone.item_aspects import ensure_distinguishable
from model.backbone.report import PretrainReport, TrainingProgress
from model.backbone.schema import BackboneRefused
from model.backbone.shape import BackboneShape
from model.backbone.statistics import FittedStatistics, fit_statistics
from model.backbone.trainer import Trainer
from model.config import NO_QUERY, BackboneConfig, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.query import QueryFeatures

__all__ = [
    "PretrainReport",
    "TrainingProgress",
    "pretrain",
    "pretrain_backbone",
]

Make = Callable[[BackboneConfig, BackboneShape, str], FoundationBackbone]
"""Makes an untrained model of a configuration, the sizes of its tables, and the digest of the feature encoder."""


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
    queries: Sequence[QueryFeatures] = (),
    make: Make = make_foundation,
) -> tuple[FrozenBackbone, PretrainReport]:
    """Trains the configured backbone: that of `backbone.factory` if it is set, else the foundation model, which `make`
    makes untrained.

    Raises BackboneRefused if the examples lack the conversions, queries or judgements that the configuration asks for,
    if no item aspect tells the items apart, or if a custom backbone cannot be used; ValueError as `pretrain` does.
    """
    ensure_converted(backbone, examples)
    ensure_searched(backbone, examples, len(queries))
    ensure_judged(backbone, examples)
    if backbone.factory:
        shape = BackboneShape.of(encoder, domain_sizes)
        data = TrainingData.of(examples, ProfileTable(encoder, users, items, queries), backbone.history)
        cut = validation_cut(examples, config.validation_share)
        own, report = pretrain_custom(data, cut, encoder, shape, backbone, config)
        report.window = (float(examples.time[0]), float(examples.time[-1]))
        return own, report
    ensure_distinguishable(backbone, encoder, items)
    return pretrain(
        examples, users, items, encoder, domain_sizes=domain_sizes, backbone=backbone, config=config,
        progress=progress, queries=queries, make=make,
    )  # fmt: skip


def ensure_converted(backbone: BackboneConfig, examples: Examples) -> None:
    """Raises BackboneRefused if conversions are to be learned but no example has one: CVR would silently become 0."""
    if backbone.tasks == "ctr_ctcvr" and (examples.conversion is None or not examples.conversion.any()):
        raise BackboneRefused(
            'backbone.tasks is "ctr_ctcvr", but none of the examples is a conversion: bring a stream whose first half '
            'has some, or set backbone.tasks = "ctr"'
        )


def ensure_searched(backbone: BackboneConfig, examples: Examples, queries: int) -> None:
    """Raises BackboneRefused if queries are to be read but no example has one: their parameters would stay untrained.

    Raises ValueError if an example's query index lies outside the list of `queries`.
    """
    if backbone.query_aspects and examples.query is not None and examples.query.max(initial=NO_QUERY) >= queries:
        raise ValueError(f"examples: query {examples.query.max()} of a list of {queries}")
    if backbone.query_aspects and not examples.searches:
        raise BackboneRefused(
            f"backbone.query_aspects is {', '.join(backbone.query_aspects)}, but none of the examples belongs to a "
            "request with a query: bring a stream whose first half has some, or leave backbone.query_aspects empty"
        )


def ensure_judged(backbone: BackboneConfig, examples: Examples) -> None:
    """Raises BackboneRefused if relevance is to be predicted but no example is judged: its tower would stay
    untrained."""
    if backbone.relevance_weight and not examples.judged:
        raise BackboneRefused(
            f"backbone.relevance_weight is {backbone.relevance_weight:g}, but nobody judged how relevant any of the "
            "examples is to its query: bring a stream whose first half has judgements, or set "
            "backbone.relevance_weight = 0"
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
    queries: Sequence[QueryFeatures] = (),
    make: Make = make_foundation,
) -> tuple[FoundationBackbone, PretrainReport]:
    """Trains on all but the last `validation_share` of the examples, stops early on it, and freezes the best pass.

    With `config.refit`, a second model is then trained on all examples for the best number of passes and frozen instead
    (docs/decisions/0067). The examples may mix any number of domains. With `resume`, the state is kept in that file
    (and of the refit beside it) after each pass, and an interrupted run is taken up from there, bit for bit. The
    caller's random state is left as it was. Raises ValueError if a part of the split would be empty, ResumeError if the
    file belongs to another run.
    """
    begun = clock.perf_counter()
    profiles = ProfileTable(encoder, users, items, queries)
    data = TrainingData.of(examples, profiles, backbone.history)
    run = _Run(data, encoder, domain_sizes, backbone, config, _run_name(examples, encoder, backbone, config), make)
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
    report.click_rate = float(examples.label.mean())
    report.seconds = clock.perf_counter() - begun
    return model.freeze(), report


@dataclass(frozen=True)
class _Run:
    """What the first training and the refit share."""

    data: TrainingData
    encoder: FeatureEncoder
    domain_sizes: tuple[int, int, int]
    backbone: BackboneConfig
    config: PretrainConfig
    name: str
    make: Make

    @property
    def shape(self) -> BackboneShape:
        """Sizes of the tables."""
        return BackboneShape.of(self.encoder, self.domain_sizes)

    def statistics(self, cut: int) -> FittedStatistics | None:
        """Target statistics of the first `cut` examples; None if the backbone reads none."""
        if not self.backbone.target_statistics:
            return None
        return fit_statistics(self.shape, self.encoder, self.data.part(0, cut), item_aspects=self.backbone.item_aspects)

    def trained(
        self,
        cut: int,
        progress: Callable[[TrainingProgress], None] | None,
        resume: Path | None,
        like: PretrainReport | None = None,
    ) -> Trainer:
        """A new model, trained on the first `cut` examples until the rest validates no better, or as `like` was."""
        torch.manual_seed(self.config.seed)
        model = self.make(self.backbone, self.shape, self.encoder.digest)
        statistics = self.statistics(cut)
        if statistics is not None:
            model.begin_with(statistics, self.data.part(0, cut))
        if model.user_encoder is not None and not (resume and resume.exists()):
            teach = clue_pretrain if self.backbone.user_objective == "clue" else cloze_pretrain
            teach(model.user_encoder, model.item_table, self.data.part(0, cut), self.config)
        trainer = Trainer(model, self.data, cut, self.config, f"{self.name} {cut}", statistics)
        trainer.train(progress, resume, like)
        return trainer


def _going_on(
    progress: Callable[[TrainingProgress], None] | None, done: int
) -> Callable[[TrainingProgress], None] | None:
    """The same callback for a later training, counting the `done` steps of the earlier one too."""
    if progress is None:
        return None
    return lambda at: progress(replace(at, step=at.step + done, steps=at.steps + done))


def _run_name(examples: Examples, encoder: FeatureEncoder, backbone: BackboneConfig, config: PretrainConfig) -> str:
    """A hash of everything that decides the result, so that only the same run is resumed."""
    digest = hashlib.sha256(encoder.digest.encode())
    digest.update(json.dumps([backbone.model_dump(), config.model_dump()], sort_keys=True).encode())
    for column in fields(examples):
        values = getattr(examples, column.name)
        digest.update(b"" if values is None else values.tobytes())
    return digest.hexdigest()
