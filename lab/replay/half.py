"""The live half of a stream, prepared for playing, and its requests with a fault put into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.config import LiveConfig
from features.live.features import LiveFeatures
from features.live.layout import LiveLayout, LiveRow
from lab.evaluate.config import EvaluationConfig
from lab.evaluate.known_labels import live_histories
from lab.evaluate.label_times import decided_labels
from lab.evaluate.plan import Plan
from lab.evaluate.pretrained import Pretrained
from lab.evaluate.work import ensure_pretrained, load_pretrained
from lab.kernel_start import count_log
from lab.represented import RepresentedPairs, represent_pairs
from lab.streams import Chunk, Stream
from lab.streams.sources import Source
from model.config import NO_HISTORY
from model.encoding.domain import DomainSpace
from model.encoding.history import PastEvents
from model.encoding.item_values import Slots
from model.kernel.start import KernelStart


@dataclass(frozen=True)
class LiveHalf:
    """The served data of `r` requests and `n` examples in order, and the initial state of learning."""

    chunk: Chunk
    pairs: RepresentedPairs
    past: PastEvents | None
    """Users' earlier events in the stream without faults, if the backbone reads them."""
    values: Slots
    """Values of the items' crossed fields by item, int16 `(items, S)`."""
    users: Sequence[str]
    items: Sequence[str]
    space: DomainSpace
    layout: LiveLayout
    live: LiveConfig
    rows: Sequence[LiveRow]
    """The live rows when the half begins."""
    start: KernelStart
    pace: float
    """Requests per second at which it is replayed: the live features' half-lives count in this time."""
    join_s: float
    """Original seconds until the labels of a request are decided; a later click counts as none at first."""
    horizon_s: float
    """Original seconds for which a late click is put right; a later one is lost."""

    @staticmethod
    def of(stream: Stream, pretrained: Pretrained, config: EvaluationConfig) -> LiveHalf:
        """The live half of `stream` as `pretrained` represents it."""
        chunk, log = Chunk.concat(list(stream.chunks("live"))), pretrained.log
        row, column = np.nonzero(chunk.shown)
        layout = replace(pretrained.layout, history=NO_HISTORY)  # it is read already, in `past`
        live = LiveFeatures(layout, config.live)
        before = np.arange(len(log.examples), dtype=np.float64) - 1e9
        count_log(live, log, before / config.requests_per_second)
        where = (chunk.user[row], chunk.items[row, column], chunk.domain[row])
        past = live_histories(stream, pretrained, decided_labels(chunk, config))
        return LiveHalf(
            chunk=chunk,
            pairs=represent_pairs(pretrained.backbone, pretrained.profiles, *where, past, chunk.query_of(row)),
            past=past,
            values=log.values,
            users=log.users,
            items=log.items,
            space=stream.catalogue.space,
            layout=layout,
            live=config.live,
            rows=live.rows(),
            start=pretrained.start,
            pace=config.requests_per_second,
            join_s=config.join_s,
            horizon_s=config.horizon_s,
        )


def prepare_half(plan: Plan, source: Source, seed: int) -> LiveHalf:
    """The live half of a source; its backbone is kept in the plan's folder."""
    stream = source.open(seed, plan.cache_dir)
    ensure_pretrained(plan, stream, seed)
    return LiveHalf.of(stream, load_pretrained(plan, stream, seed), plan.config)


@dataclass(frozen=True)
class ReplayRequests:
    """`r` requests as they are replayed: those of a live half, and those that a fault adds."""

    origin: NDArray[np.int64]
    """Index of the live half's request that is served, `(r,)`."""
    place: NDArray[np.float64]
    """When, in requests of the live half, `(r,)`, rising: what is added comes between them."""
    click: NDArray[np.bool_]
    """Labels that learning gets, sooner or later, `(r, k)`."""
    delay: NDArray[np.float32]
    """Original seconds from the request to its click, `(r, k)`."""
    truth: NDArray[np.bool_]
    """What the user really did, `(r, k)`."""
    measured: NDArray[np.bool_]
    """Requests whose losses count, `(r,)`: all but the one user's."""
    span: tuple[int, int]
    """The first request of the live half that a fault affects, and the first one after it."""
    gain: NDArray[np.float64]
    """Factor by which a live kernel exaggerates its change of the logits, `(r,)`; 1 for a sound kernel."""

    @staticmethod
    def sound(half: LiveHalf, span: tuple[int, int]) -> ReplayRequests:
        """The requests of a live half without a fault; the caller changes those in `span`."""
        chunk, everything = half.chunk, np.ones(len(half.chunk), dtype=np.bool_)
        order = np.arange(len(chunk))
        return ReplayRequests(
            order, order.astype(np.float64), chunk.click.copy(), chunk.delay.copy(), chunk.clean_click, everything,
            span, everything.astype(np.float64),
        )  # fmt: skip
