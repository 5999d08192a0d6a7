"""The live half of a scripted stream made ready to be played, and what is put wrong in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from features.config import LiveConfig
from features.live.features import LiveFeatures
from features.live.layout import LiveLayout, LiveRow
from lab.evaluate.plan import Plan
from lab.evaluate.prepare import EvaluationConfig, Pretrained
from lab.evaluate.work import ensure_pretrained, load_pretrained
from lab.kernel_start import count_log
from lab.represented import RepresentedPairs, represent_pairs
from lab.streams import Chunk, Stream
from lab.streams.sources import Source
from model.encoding.domain import DomainSpace
from model.encoding.item_values import Slots
from model.kernel.start import KernelStart

Poison = Literal["none", "labels flipped", "no clicks", "one user clicks nothing", "one user clicks everything"]
POISONS: tuple[Poison, ...] = get_args(Poison)
SHARE = 0.2
"""Of the live half that is poisoned."""
_EARLIEST, _LATEST = 0.2, 0.45
"""Where the poison begins, as a share of the live half: 5 000 examples of 15 000 follow it."""
_BOT_REQUESTS = 9
"""Of the one user, for every request that comes anyway: 90 % of the traffic."""


@dataclass(frozen=True)
class LiveHalf:
    """What is served, in the order of its `r` requests and `n` examples, and what learning starts from."""

    chunk: Chunk
    pairs: RepresentedPairs
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
    """Requests per second at which it is played: the live features' half-lives count in this time."""
    join_s: float
    """Original seconds until the labels of a request are decided; a later click counts as none."""

    @staticmethod
    def of(stream: Stream, pretrained: Pretrained, config: EvaluationConfig) -> LiveHalf:
        """The live half of `stream` as `pretrained` represents it."""
        chunk, log = Chunk.concat(list(stream.chunks("live"))), pretrained.log
        row, column = np.nonzero(chunk.shown)
        live = LiveFeatures(pretrained.layout, config.live)
        before = np.arange(len(log.examples), dtype=np.float64) - 1e9
        count_log(live, log, before / config.requests_per_second)
        where = (chunk.user[row], chunk.items[row, column], chunk.domain[row])
        return LiveHalf(
            chunk=chunk,
            pairs=represent_pairs(pretrained.backbone, pretrained.profiles, *where),
            values=log.values,
            users=log.users,
            items=log.items,
            space=stream.catalogue.space,
            layout=pretrained.layout,
            live=config.live,
            rows=live.rows(),
            start=pretrained.start,
            pace=config.requests_per_second,
            join_s=config.join_s,
        )


def ready(plan: Plan, source: Source, seed: int) -> LiveHalf:
    """The live half of a source; its backbone is kept in the plan's folder."""
    stream = source.open(seed, plan.cache_dir)
    ensure_pretrained(plan, stream, seed)
    return LiveHalf.of(stream, load_pretrained(plan, stream, seed), plan.config)


@dataclass(frozen=True)
class PlayedRequests:
    """`r` requests as they are played: those of a live half, and those that a poison adds."""

    origin: NDArray[np.int64]
    """Which request of the live half is served, `(r,)`."""
    place: NDArray[np.float64]
    """When, in requests of the live half, `(r,)`, rising: what is added comes between them."""
    click: NDArray[np.bool_]
    """What learning is told, `(r, k)`."""
    truth: NDArray[np.bool_]
    """What the user really did, `(r, k)`."""
    measured: NDArray[np.bool_]
    """Requests whose losses count, `(r,)`: all but the one user's."""
    span: tuple[int, int]
    """The first request of the live half that is poisoned, and the first behind it."""


def span_of(requests: int, seed: int) -> tuple[int, int]:
    """The poisoned requests of a live half: where they begin is drawn by the seed."""
    begin = int(np.random.default_rng(seed).uniform(_EARLIEST, _LATEST) * requests)
    return begin, begin + int(SHARE * requests)


def poisoned(half: LiveHalf, poison: Poison, seed: int) -> PlayedRequests:
    """The live half with one thing wrong in it, or nothing."""
    chunk, span = half.chunk, span_of(len(half.chunk), seed)
    click, inside = chunk.click & (chunk.delay <= half.join_s), slice(*span)
    if poison == "labels flipped":
        click[inside] ^= True
    elif poison == "no clicks":
        click[inside] = False
    place, everything = np.arange(len(chunk), dtype=np.float64), np.ones(len(chunk), dtype=np.bool_)
    played = PlayedRequests(np.arange(len(chunk)), place, click, chunk.clean_click, everything, span)
    if poison in {"one user clicks nothing", "one user clicks everything"}:
        return _with_one_user(played, chunk.user, clicks=poison == "one user clicks everything", seed=seed)
    return played


def _with_one_user(played: PlayedRequests, user: NDArray[np.int64], *, clicks: bool, seed: int) -> PlayedRequests:
    """The user with the most requests before the span sends those again, nine for every request of the span."""
    begin, end = played.span
    one = int(np.bincount(user[:begin]).argmax())
    own, places = np.flatnonzero(user[:begin] == one), np.arange(begin, end)
    added = np.random.default_rng(seed).choice(own, (len(places), _BOT_REQUESTS)).ravel()
    between = places[:, None] - 1 + np.arange(1, _BOT_REQUESTS + 1) / (_BOT_REQUESTS + 1)
    place = np.concatenate([played.place, between.ravel()])
    order = np.argsort(place, kind="stable")
    origin, place = np.concatenate([played.origin, added])[order], place[order]
    click, truth = played.click[origin], played.truth[origin]
    bot = (user[origin] == one) & (place > begin - 1) & (place < end)
    click[bot] = truth[bot] = clicks
    return PlayedRequests(origin, place, click, truth, user[origin] != one, played.span)
