"""A stream made ready once for all adapters: backbone, representations, live features, order of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from features.config import LiveConfig
from features.live.features import LiveFeatures, LiveLayout, RequestItems
from features.live.layout import Crossing
from lab.adapters.training import GradientTraining
from lab.evaluate.known_labels import Labels, live_histories, live_outcomes
from lab.kernel_start import PretrainingLog, count_log, kernel_start
from lab.represented import represent_pairs
from lab.streams import Catalogue, Chunk, Stream, ensure_learnable
from model.backbone.dataset import Examples, ProfileTable
from model.backbone.dssm import make_foundation
from model.backbone.interface import FrozenBackbone
from model.backbone.pretrain import Make, pretrain_backbone
from model.config import NO_HISTORY, BackboneConfig, KernelConfig, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.history import PastEvents
from model.encoding.item_values import ItemValues
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.query import QueryFeatures
from model.kernel.start import KernelStart

Texts = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings that an evaluation fixes for all adapters."""

    backbone: BackboneConfig
    pretrain: PretrainConfig
    live: LiveConfig
    requests_per_second: float
    """Pace at which the live half is played: the live features' half-lives count in this time."""
    join_s: float
    """Original seconds a request waits for its feedback; a click after that is learned as none at first."""
    horizon_s: float
    """Original seconds for which a late click is still put right, as in the stream processor; later it is lost."""
    training: GradientTraining
    """Size of the batches that all adapters get, and the steps of those that learn by gradient."""


@dataclass(frozen=True)
class PreparedStream:
    """The live half, example by example, in the order of the requests; `n` examples."""

    x: NDArray[np.float16]
    live: NDArray[np.float32]
    values: NDArray[np.int16]
    frozen_logit: NDArray[np.float32]
    domain: NDArray[np.int64]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    request: NDArray[np.int64]
    time: NDArray[np.float64]
    """Original event time of the request, seconds."""
    label: NDArray[np.float32]
    """Label for training at the end of the window; wrong or missing where the script says so."""
    truth: NDArray[np.float32]
    """What the user really did, on which measures are computed."""
    probability: NDArray[np.float32]
    decided: NDArray[np.int64]
    """Number of the scoring batch after which the label is known."""
    corrected: NDArray[np.int64]
    """Number of the scoring batch after which a click that came late is known; -1 where there was none."""
    batch: NDArray[np.int64]
    """Number of the scoring batch."""
    conversion: NDArray[np.float32] | None = None
    """Whether the user clicked and converted; None for a stream without conversions."""
    cvr_logit: NDArray[np.float32] | None = None
    """Logit of a conversion once clicked, by the frozen model; 0 without a conversion tower."""
    query: NDArray[np.int64] | None = None
    """Position of the query, `NO_QUERY` for a recommendation; None where nobody asks for anything."""
    relevance: NDArray[np.float32] | None = None
    """How relevant the item is to the query, as judged, nan where nobody did; None for a stream without judgements."""
    relevance_logit: NDArray[np.float32] | None = None
    """Logit of its relevance by the frozen model; None for a backbone without this task."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def batches(self) -> int:
        """Number of scoring batches."""
        return int(self.batch[-1]) + 1

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All columns by name, for a file."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


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


def prepare(
    stream: Stream, pretrained: Pretrained, config: EvaluationConfig, past: PastEvents | None = None
) -> PreparedStream:
    """Represents every shown item of the live half and computes its live features as they were at that time.

    `past` is what a user encoder reads before each request: by default the live histories.
    """
    chunk = Chunk.concat(list(stream.chunks("live")))
    row, column = np.nonzero(chunk.shown)
    user, item, domain = chunk.user[row], chunk.items[row, column], chunk.domain[row]
    known = decided_labels(chunk, config)
    past = live_histories(stream, pretrained, known) if past is None else past
    query = chunk.query_of(row)
    pairs = represent_pairs(pretrained.backbone, pretrained.profiles, user, item, domain, past, query)
    residual = (known.label - 1.0 / (1.0 + np.exp(-pairs.frozen_logit))).astype(np.float32)
    return PreparedStream(
        x=pairs.x,
        live=_live(stream, pretrained, config, known, pairs.content, residual),
        values=pretrained.log.values[item],
        frozen_logit=pairs.frozen_logit,
        domain=domain,
        user=user,
        item=item,
        request=row.astype(np.int64),
        time=chunk.time[row],
        label=known.label.astype(np.float32),
        truth=chunk.clean_click[row, column].astype(np.float32),
        probability=chunk.probability[row, column],
        decided=known.decided[row],
        corrected=known.corrected,
        batch=known.batch[row],
        conversion=None if chunk.conversions is None else chunk.conversions.happened[row, column].astype(np.float32),
        cvr_logit=None if chunk.conversions is None else pairs.cvr_logit,
        query=query,
        relevance=None if chunk.relevance is None else chunk.relevance[row, column],
        relevance_logit=pairs.relevance_logit,
    )


def decided_labels(chunk: Chunk, config: EvaluationConfig) -> Labels:
    """The labels that learning gets from a live half, and when."""
    row, column = np.nonzero(chunk.shown)
    delay = chunk.delay[row, column]
    label = chunk.click[row, column] & (delay <= config.join_s)
    late = chunk.click[row, column] & (delay > config.join_s) & (delay <= config.horizon_s)
    batch, decided = _batches(chunk, config)
    corrected = np.where(late, np.maximum(first_batch_after(chunk, batch, chunk.time[row] + delay), decided[row]), -1)
    return Labels.of(chunk, label, batch, decided, corrected)


def _batches(chunk: Chunk, config: EvaluationConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Scoring batch of each request, and the batch after which its labels are known, both `(r,)`."""
    before = np.cumsum(chunk.shown.sum(axis=1)) - chunk.shown.sum(axis=1)
    _, batch = np.unique(before // config.training.batch_examples, return_inverse=True)
    closes = chunk.time + config.join_s
    return batch.astype(np.int64), np.maximum(batch, first_batch_after(chunk, batch, closes))


def first_batch_after(chunk: Chunk, batch: NDArray[np.int64], time: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first scoring batch that ends at or after each time; one more than there are if none does."""
    last = np.searchsorted(batch, np.arange(batch[-1] + 1), side="right") - 1
    return np.searchsorted(chunk.time[last], time, side="left").astype(np.int64)  # when each batch has been scored


def _after_log(pretrained: Pretrained, config: EvaluationConfig) -> LiveFeatures:
    """The live rows at the begin of the live half."""
    live = LiveFeatures(replace(pretrained.layout, history=NO_HISTORY), config.live)
    before = np.arange(len(pretrained.log.examples), dtype=np.float64) - 1e9
    count_log(live, pretrained.log, before / config.requests_per_second)
    return live


def _live(  # noqa: PLR0917
    stream: Stream,
    pretrained: Pretrained,
    config: EvaluationConfig,
    known: Labels,
    content: NDArray[np.float32],
    residual: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Live features of every example, `(n, k)`, from the pretraining log and the labels known before its batch.

    Live times are those of the evaluation's pace; the log is placed before them.
    """
    live = _after_log(pretrained, config)
    played = np.arange(len(known.chunk)) / config.requests_per_second
    outcomes = live_outcomes(stream, pretrained, known, content, residual, played)
    out = np.empty((len(content), pretrained.layout.width), dtype=np.float32)
    for rows, asked, decided, late in known.before(outcomes):
        live.update(decided)
        live.correct(late)
        items = RequestItems(asked.domain, asked.content, asked.values)
        out[rows] = live.features(asked.time, asked.user_id, items, asked.items)
    return out
