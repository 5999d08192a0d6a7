"""The measures of every method: a target's second half, request by request, and its whole catalogue.

A backbone with a user encoder reads what a user did in the first half, in the source and in the target. These histories
end with the first half, also for requests of the second, because that is all that the catalogue is ranked with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lab.streams import Chunk
from lab.transfer.catalogue import rank_catalogue
from lab.transfer.task import Target, TransferTask
from model.backbone.examples import Examples
from model.backbone.past import past_events
from model.config import NO_HISTORY, HistorySpec
from model.encoding.history import PastEvents
from model.evaluation import auc, grouped_auc, log_loss, sigmoid

USERS = 300
"""Users whose catalogue is ranked, at most; more are drawn by the seed."""


@dataclass(frozen=True)
class TransferRow:
    """Results of one method on one target and seed."""

    source: str
    target: str
    seed: int
    method: str
    request_auc: float
    auc: float
    log_loss: float
    """Not-a-number for a method whose scores are no probabilities."""
    hit: float
    """HR@10 over the whole catalogue, mean over users; `ndcg` likewise. Not-a-number where it is not ranked."""
    ndcg: float
    cpu_s: float
    """Processor seconds of all its learning, without the source's pretraining."""
    trained: int
    """Numbers that learning changes."""


@dataclass(frozen=True)
class Asked:
    """Pairs of user and item, with what a user encoder reads before each of them."""

    examples: Examples
    past: PastEvents | None
    """Events of the first half, of source and target; None if the backbone reads no histories."""
    own: PastEvents | None
    """The same of the target alone."""

    @staticmethod
    def of(examples: Examples, both: Examples, own: Examples, spec: HistorySpec) -> Asked:
        """The examples with the events of `both`, source and target, and of the target's `own`."""
        if not spec.length:
            return Asked(examples, None, None)
        return Asked(examples, past_events(both, spec, examples), past_events(own, spec, examples))

    def in_scene(self, scene: int) -> Asked:
        """The same pairs, with the scene index replaced by `scene`."""
        domain = self.examples.domain.copy()
        domain[:, 0] = scene
        return replace(self, examples=replace(self.examples, domain=domain))


@dataclass(frozen=True)
class TargetTrial:
    """A target's halves as examples, and the catalogue of its second half's users."""

    target: Target
    train: Asked
    test: Asked
    request: NDArray[np.int64]
    """Request of each example of the second half."""
    catalogue: Asked
    """Every item for every ranked user, user after user, in the domain of the user's first request."""
    relevant: NDArray[np.bool_]
    """Mask of the items that a user clicked in the second half, `(u, m)`."""
    masked: NDArray[np.bool_]
    """Mask of the items shown to a user in the first half, by source or target, `(u, m)`."""

    @staticmethod
    def of(task: TransferTask, target: Target, seed: int, history: HistorySpec = NO_HISTORY) -> TargetTrial:
        """Labels to learn from are those that were logged, labels to be measured by what users did."""
        clicked, user, place = _clicks(target)
        ranked = np.unique(user[clicked])
        if len(ranked) > USERS:
            ranked = np.sort(np.random.default_rng(seed).choice(ranked, USERS, replace=False))
        shape = len(ranked), len(target.items)
        relevant = np.zeros(shape, dtype=bool)
        mine = clicked & np.isin(user, ranked)
        relevant[np.searchsorted(ranked, user[mine]), place[mine]] = True
        masked = np.zeros(shape, dtype=bool)
        for chunk in (task.source.pretrain, target.train):
            of, item = _shown(chunk)
            mine = np.isin(of, ranked) & np.isin(item, target.items)
            masked[np.searchsorted(ranked, of[mine]), np.searchsorted(target.items, item[mine])] = True
        row, _ = np.nonzero(target.test.shown)
        train, test = examples_of(target.train, target.train.click), examples_of(target.test, target.test.clean_click)
        both = _in_time_order(examples_of(task.source.pretrain, task.source.pretrain.click), train)
        asked = [Asked.of(part, both, train, history) for part in (train, test, _whole_catalogue(target, ranked))]
        return TargetTrial(target, asked[0], asked[1], row, asked[2], relevant, masked)

    def row(  # noqa: PLR0917 -- the columns of a row
        self,
        source: str,
        seed: int,
        method: str,
        logit: NDArray[np.float32],
        catalogue: NDArray[np.float32] | None,
        cpu_s: float,
        trained: int,
        *,
        probable: bool = True,
    ) -> TransferRow:
        """The figures of scores of the second half `(n,)`, and of the catalogue `(u * m,)`."""
        label, hit, ndcg = self.test.examples.label, np.nan, np.nan
        if catalogue is not None:
            order = rank_catalogue(catalogue.reshape(self.relevant.shape), self.relevant, self.masked)
            hit, ndcg = (_mean(part) for part in (order.hit, order.ndcg))
        loss = log_loss(label, sigmoid(logit)) if probable else np.nan
        return TransferRow(
            source, self.target.name, seed, method, grouped_auc(label, logit, self.request), auc(label, logit),
            loss, hit, ndcg, cpu_s, trained,
        )  # fmt: skip


def examples_of(chunk: Chunk, label: NDArray[np.bool_]) -> Examples:
    """The shown items of a chunk, in order."""
    row, column = np.nonzero(chunk.shown)
    return Examples(
        chunk.user[row], chunk.items[row, column], chunk.domain[row],
        label[row, column].astype(np.float32), chunk.time[row],
    )  # fmt: skip


def _in_time_order(first: Examples, second: Examples) -> Examples:
    """The examples of both."""
    order = np.argsort(np.concatenate([first.time, second.time]), kind="stable")
    columns = ("user", "item", "domain", "label", "time")
    return Examples(*(np.concatenate([getattr(part, name) for part in (first, second)])[order] for name in columns))


def _shown(chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    row, column = np.nonzero(chunk.shown)
    return chunk.user[row], chunk.items[row, column]


def _clicks(target: Target) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Whether each example of the second half was clicked, its user, and its item's place in the catalogue."""
    user, item = _shown(target.test)
    return target.test.clean_click[target.test.shown], user, np.searchsorted(target.items, item)


def _whole_catalogue(target: Target, ranked: NDArray[np.int64]) -> Examples:
    known, first = np.unique(target.test.user, return_index=True)
    at = first[np.searchsorted(known, ranked)]
    m = len(target.items)
    n = len(ranked) * m
    return Examples(
        np.repeat(ranked, m), np.tile(target.items, len(ranked)), np.repeat(target.test.domain[at], m, axis=0),
        np.zeros(n, dtype=np.float32), np.full(n, target.test.time[0]),
    )  # fmt: skip


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
