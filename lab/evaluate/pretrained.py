"""What is trained on a stream's first half: its backbone, and what the backbone's kernels start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.live.features import LiveFeatures, LiveLayout
from features.live.layout import Crossing
from lab.evaluate.config import EvaluationConfig
from lab.kernel_start import PretrainingLog, kernel_start
from lab.streams import Catalogue, Chunk, Stream, ensure_learnable
from model.backbone.dataset import ProfileTable
from model.backbone.dssm import make_foundation
from model.backbone.examples import Examples
from model.backbone.interface import FrozenBackbone
from model.backbone.pretrain import Make, pretrain_backbone
from model.config import BackboneConfig, KernelConfig
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.query import QueryFeatures
from model.kernel.start import KernelStart

Texts = Callable[[Sequence[str]], NDArray[np.float32]]
"""Turns texts into their vectors, `(n, width)`."""


@dataclass(frozen=True)
class Pretrained:
    """Everything trained before the live half."""

    backbone: FrozenBackbone
    encoder: FeatureEncoder
    profiles: ProfileTable
    layout: LiveLayout
    log: PretrainingLog
    start: KernelStart
    held_out: NDArray[np.float32]
    """Logits of the newest examples of the log by a model that was not trained on them."""


@dataclass(frozen=True)
class TrainedBackbone:
    """A frozen backbone of a stream's first half, and what it was trained on."""

    backbone: FrozenBackbone
    encoder: FeatureEncoder
    profiles: ProfileTable
    examples: Examples
    held_out: NDArray[np.float32]
    """As `Pretrained.held_out`."""


def pretrain_on(stream: Stream, config: EvaluationConfig, kernel: KernelConfig, texts: Texts, seed: int) -> Pretrained:
    """Pretrains a backbone on the stream's first half, and what a kernel of it starts from."""
    made = train_backbone_on(stream, config, texts, seed)
    backbone, encoder, profiles, held_out = made.backbone, made.encoder, made.profiles, made.held_out
    log = log_of(stream, made.examples, encoder, profiles)
    layout = live_layout(stream, config, encoder, backbone)
    start = kernel_start(log, LiveFeatures(layout, config.live), (backbone, profiles), held_out, kernel)
    return Pretrained(backbone, encoder, profiles, layout, log, start, held_out)


def train_backbone_on(
    stream: Stream, config: EvaluationConfig, texts: Texts, seed: int, make: Make = make_foundation
) -> TrainedBackbone:
    """Pretrains a backbone on the stream's first half, from the model that `make` makes.

    Raises StreamError for what the stream knows nothing of, BackboneRefused and ValueError as `pretrain_backbone`.
    """
    ensure_learnable(config.backbone, stream)
    catalogue = stream.catalogue
    examples = pretraining_examples(stream)
    vectors = texts([item.text for item in catalogue.items])
    users = [UserFeatures(user.user_id, user.fields) for user in catalogue.users]
    items = [
        ItemFeatures(item.item_id, item.fields, vector) for item, vector in zip(catalogue.items, vectors, strict=True)
    ]
    queries = query_features(stream.catalogue, config.backbone, texts)
    encoder = FeatureEncoder.fit(
        [users[n] for n in np.unique(examples.user)],
        [items[n] for n in np.unique(examples.item)],
        user_fields=catalogue.user_fields,
        item_fields=catalogue.item_fields,
        text_width=vectors.shape[1],
    )
    backbone, report = pretrain_backbone(
        examples,
        users,
        items,
        encoder,
        domain_sizes=catalogue.space.sizes,
        backbone=config.backbone.model_copy(update={"text_width": vectors.shape[1]}),
        config=config.pretrain.model_copy(update={"seed": config.pretrain.seed + seed}),
        queries=queries,
        make=make,
    )
    held_out = np.array(report.held_out, dtype=np.float32)
    return TrainedBackbone(backbone, encoder, ProfileTable(encoder, users, items, queries), examples, held_out)


def query_features(catalogue: Catalogue, backbone: BackboneConfig, texts: Texts) -> list[QueryFeatures]:
    """The possible queries, encoded; empty for a backbone that reads no queries."""
    asked = catalogue.queries if backbone.query_aspects else ()
    vectors = texts(asked) if asked else ()
    return [QueryFeatures(query, vector) for query, vector in zip(asked, vectors, strict=True)]


def log_of(stream: Stream, examples: Examples, encoder: FeatureEncoder, profiles: ProfileTable) -> PretrainingLog:
    """The first half with the names of its users and items."""
    catalogue = stream.catalogue
    users, items = [user.user_id for user in catalogue.users], [item.item_id for item in catalogue.items]
    return PretrainingLog.of(examples, users, items, catalogue.space, (profiles, encoder))


def live_layout(
    stream: Stream, config: EvaluationConfig, encoder: FeatureEncoder, backbone: FrozenBackbone
) -> LiveLayout:
    """Columns of the live features of a stream."""
    crossing = Crossing.of(ItemValues(encoder), stream.catalogue.space)
    return LiveLayout.of(config.live, backbone.content_width, crossing, config.backbone.history)


def pretraining_examples(stream: Stream) -> Examples:
    """The stream's first half, example by example, with the labels as they were logged."""
    chunk = Chunk.concat(list(stream.chunks("pretrain")))
    row, column = np.nonzero(chunk.shown)
    return Examples(
        user=chunk.user[row],
        item=chunk.items[row, column],
        domain=chunk.domain[row],
        label=chunk.click[row, column].astype(np.float32),
        time=chunk.time[row],
        **chunk.more_labels(row, column),
    )
