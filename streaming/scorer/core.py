"""Scores one request: features, frozen arm, live arm, ranking, impression. No broker, no web server, no clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from msgspec import UNSET
from numpy.typing import NDArray
from torch import Tensor

from features.represent import Represented
from model.control_users import NO_CONTROL, ControlUsers
from model.encoding.domain import Domain, DomainSpace
from model.encoding.query import EncodedQuery
from model.kernel.kernel import Kernel
from streaming.events import Arm, Payload, ServedImpression
from streaming.events.request_ids import RequestIds
from streaming.retries import Throttle
from streaming.scorer.active_kernels import ActiveKernel, ActiveKernels
from streaming.scorer.blend import Blend, Ranking, probability
from streaming.scorer.schema import ArmScores, ItemScore, RequestRefused, ScoreRequest, ScoreResponse
from streaming.scorer.score_window import ScoreWindow

T = TypeVar("T")

log = logging.getLogger(__name__)

ARMS = ("frozen", "live")
CLICKS_ALONE = Blend()
_SAY_EVERY_S = 5.0
SLICE_CANDIDATES = 250
"""Scored without a pause. More at once is hardly faster by the candidate, and others wait longer
(docs/decisions/0102)."""


class CandidateEncoder(Protocol):
    """Reads features and runs the frozen backbone."""

    def query(self, text: str) -> EncodedQuery | None:
        """A query as the backbone reads it; None if it reads none."""

    def represent(
        self, user_id: str, item_ids: list[str], domain: Domain, time: float, query: EncodedQuery | None = None
    ) -> Represented:
        """Rows of `item_ids` for a user in a domain at an event time, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to one request, and what is logged of it."""

    response: ScoreResponse
    impression: ServedImpression


@dataclass(frozen=True, slots=True)
class _Arms:
    """Both arms' logits of one request, in the order of the candidates."""

    items: list[str]
    """Candidates without those that get no finite score."""
    represented: Represented
    frozen: NDArray[np.float32]
    live: NDArray[np.float32]
    version: int
    """Of the kernel that made `live`; 0 is the identity."""
    arm: Arm
    """Which of the two is served."""
    live_cvr: NDArray[np.float32] | None = None
    """Logits of a conversion once clicked by a kernel that adapts them; None where none does."""

    @property
    def cvr(self) -> NDArray[np.float32] | None:
        """Logits of a conversion once clicked by the arm that is served, where the backbone tells them."""
        both = self.both_cvr
        return None if both is None else both[self.arm == "live"]

    @property
    def both_cvr(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Of the frozen and of the live arm, where the backbone tells them."""
        logit = self.represented.cvr_logit
        if logit is None:
            return None
        frozen = _array(logit)
        return frozen, frozen if self.live_cvr is None else self.live_cvr

    @property
    def served(self) -> NDArray[np.float32]:
        """Logits of the arm that is served."""
        return self.live if self.arm == "live" else self.frozen


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whom candidates are ranked for, where, when, and what for."""

    user_id: str
    domain: Domain
    time: float
    query: EncodedQuery | None = None


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the user is shown, best first."""

    user_id: str
    items: list[str]
    domain: Domain
    time: float
    order: NDArray[np.int64]
    """Rows of `items` among the candidates."""


def _both(ranked: list[str], arms: _Arms, order: NDArray[np.int64]) -> list[ArmScores]:
    frozen, live = (probability(logit[order]).tolist() for logit in (arms.frozen, arms.live))
    return [ArmScores(*row) for row in zip(ranked, frozen, live, strict=True)]


def _scores(ranked: list[str], arms: _Arms, ranking: Ranking, order: NDArray[np.int64]) -> list[ItemScore]:
    scores = ranking.score[order].tolist()
    if ranking.cvr is None:
        return [ItemScore(item, score) for item, score in zip(ranked, scores, strict=True)]
    ctr, cvr = probability(arms.served[order]), ranking.cvr[order]
    columns = (ctr.tolist(), cvr.tolist(), (ctr * cvr).tolist())
    return [ItemScore(*row) for row in zip(ranked, scores, *columns, strict=True)]


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _joined(parts: Sequence[Represented]) -> Represented:
    """The slices of one request as one."""
    if len(parts) == 1:
        return parts[0]
    cvr = [part.cvr_logit for part in parts if part.cvr_logit is not None]
    cvr_live = [part.cvr_live for part in parts if part.cvr_live is not None]
    return Represented(
        x=torch.cat([part.x for part in parts]),
        live=torch.cat([part.live for part in parts]),
        content=torch.cat([part.content for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        frozen_logit=torch.cat([part.frozen_logit for part in parts]),
        cvr_logit=torch.cat(cvr) if cvr else None,
        cvr_live=torch.cat(cvr_live) if cvr_live else None,
    )


def _scored(parts: Sequence[Represented], kernel: Kernel | None) -> Iterator[NDArray[np.float32]]:
    """Logits of conversions by the kernel that adapts them, slice by slice."""
    for part in parts:
        if kernel is not None and part.conversion_inputs is not None:
            yield _array(kernel.logit(part.conversion_inputs))


def _of_conversions(arms: _Arms, order: NDArray[np.int64]) -> Mapping[Payload, NDArray[np.float32]]:
    """What the conversion task is learned from, as it was served; nothing where the backbone tells no conversions."""
    both, live = arms.both_cvr, arms.represented.cvr_live
    if both is None or live is None:
        return {}
    return {"cvr_live": live.numpy()[order], "cvr_frozen_logit": both[0][order], "cvr_live_logit": both[1][order]}


def _finished(slices: Generator[None, None, T]) -> T:
    """What the slices come to, without a pause."""
    while True:
        try:
            next(slices)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


class Scorer:
    """Scores requests by the frozen backbone and the kernel in use."""

    def __init__(
        self,
        *,
        encoder: CandidateEncoder,
        fingerprint: str,
        kernels: ActiveKernels,
        space: DomainSpace,
        group_of: Callable[[Domain], str | None],
        groups: tuple[str, ...],
        live_arm: bool = True,
        control: ControlUsers = NO_CONTROL,
        blend: Blend = CLICKS_ALONE,
        request_ids: RequestIds,
        max_candidates: int = 2_000,
        on_undeclared: Callable[[], None] = lambda: None,
    ) -> None:
        """`fingerprint` is the backbone's. `live_arm` False serves the frozen scores exactly; live ones are measured.

        `on_undeclared` is told of undeclared domain facets.
        """
        self._encoder = encoder
        self._fingerprint = fingerprint
        self._kernels = kernels
        self._space = space
        self._groups = groups
        self._group_of = group_of
        self._live_arm = live_arm
        self._control = control
        self._blend = blend
        self._request_ids = request_ids
        self._max_candidates = max_candidates
        self._on_undeclared = on_undeclared
        self._say_left_out = Throttle(_SAY_EVERY_S)
        self.windows: Mapping[tuple[str, str], ScoreWindow] = {
            (group, arm): ScoreWindow() for group in groups for arm in ARMS
        }
        """Recent scores by group and arm."""

    def warm_up(self, items: list[str]) -> None:
        """Goes the whole way of a request once per group's kernel, without leaving a trace in the windows."""
        for group in self._groups:
            asked = _Asked("warm-up", Domain(), 0.0, self._encoder.query("warm-up"))
            arms = _finished(self._arms(asked, items, group))
            if arms.items:
                self._kernels.look_at(group, arms.represented.inputs, arms.represented.conversion_inputs)

    def score(self, request: ScoreRequest, time: float) -> Scored:
        """Ranks the candidates by the arm that is served; `time` is the event time, seconds. Raises RequestRefused."""
        return _finished(self.in_slices(request, time))

    def in_slices(self, request: ScoreRequest, time: float) -> Generator[None, None, Scored]:
        """The same, with a pause before each slice of a request that has several; refusals come before the first."""
        # Refusals first: what a request may be is docs/decisions/0043.
        candidates = self._candidates(request)
        domain, group = self._domain(request)
        asked = _Asked(request.user_id, domain, time, self._query(request, group))
        arms = yield from self._arms(asked, candidates, group)
        items = self._scorable(arms)
        ranking = self._blend.rank(arms.served, arms.cvr)
        self.windows[group, "frozen"].add(probability(arms.frozen))
        self.windows[group, "live"].add(probability(arms.live))
        self._kernels.observe(group, arms.represented.inputs, arms.represented.conversion_inputs)
        # Stable: of equal scores the retrieval's own order is the best guess. Logits, for the sigmoid saturates.
        order = np.argsort(-ranking.key, kind="stable")[: request.top_k]
        ranked = [items[i] for i in order]
        response = ScoreResponse(
            request_id=self._request_ids.new(group),
            kernel_version=arms.version if arms.arm == "live" else 0,
            group=group,
            scores=_scores(ranked, arms, ranking, order),
            duplicates=len(request.candidates) - len(candidates),
            arms=_both(ranked, arms, order) if request.arms else UNSET,
        )
        shown = _Shown(request.user_id, ranked, domain, time, order)
        return Scored(response, self._impression(response.request_id, shown, arms))

    def _candidates(self, request: ScoreRequest) -> list[str]:
        count = len(request.candidates)
        if not count:
            raise RequestRefused("empty_candidates", "candidates is empty: name at least one item - at `$.candidates`")
        if count > self._max_candidates:
            raise RequestRefused(
                "too_many_candidates",
                f"{count} candidates, at most {self._max_candidates} are scored: send fewer, or raise "
                "scorer.max_candidates - at `$.candidates`",
            )
        # Feedback on a blank item would be refused at both entry points: nothing could be learned from what was shown.
        if any(map(str.isspace, (request.user_id, *request.candidates))):
            raise RequestRefused("invalid_request", "user_id or one of the candidates is blank: name it")
        return list(dict.fromkeys(request.candidates))

    def _domain(self, request: ScoreRequest) -> tuple[Domain, str]:
        domain = request.domain.domain()
        if not self._space.declared(domain):
            self._on_undeclared()
            domain = self._space.known(domain)
        group = self._group_of(domain)
        if group is None:
            raise RequestRefused(
                "no_group", f"no kernel group holds the domain {domain.key}: `groups` must cover it - at `$.domain`"
            )
        return domain, group

    def _query(self, request: ScoreRequest, group: str) -> EncodedQuery | None:
        """Encoded once, however many slices the request has."""
        if request.query is None:
            return None
        if request.query.isspace():
            raise RequestRefused("invalid_request", "query is blank: name what is asked for, or leave it out")
        query = self._encoder.query(request.query)
        if query is None:
            raise RequestRefused(
                "no_query_aspect",
                f"the backbone of group {group!r} reads no query: leave query out for a recommendation, or pretrain "
                "with backbone.query_aspects - at `$.query`",
            )
        return query

    def _controls(self, user_id: str) -> bool:
        return self._control.share > 0 and self._control.draw(user_id).control

    def _arms(self, asked: _Asked, items: list[str], group: str) -> Generator[None, None, _Arms]:
        # One reference for the whole request: a swap in between changes the next request, never this one
        # (docs/decisions/0041).
        active = self._kernels.current(group)
        arm: Arm = "frozen" if active.frozen or not self._live_arm or self._controls(asked.user_id) else "live"
        parts, lives = [], []
        for start in range(0, len(items), SLICE_CANDIDATES):
            if len(items) > SLICE_CANDIDATES:
                yield
            with torch.inference_mode():
                part = self._encoder.represent(
                    asked.user_id, items[start : start + SLICE_CANDIDATES], asked.domain, asked.time, asked.query
                )
                parts.append(part)
                if active.kernel is not None:
                    lives.append(_array(active.kernel.logit(part.inputs)))
        represented = _joined(parts)
        finite = represented.finite()
        live = np.concatenate(lives) if lives else None
        if not bool(finite.all()):
            items, represented = self._left_out(asked, items, represented, finite)
            live = None if live is None else live[finite.numpy()]
        frozen = _array(represented.frozen_logit)
        if live is None:
            return _Arms(items, represented, frozen, frozen, 0, arm)
        if not np.isfinite(live).all():
            self._kernels.discard(
                group, active.version, "non_finite_scores", f"user {asked.user_id!r} got no finite score"
            )
            return _Arms(items, represented, frozen, frozen, 0, arm)
        live_cvr = self._live_cvr(group, active, parts, finite, asked)
        return _Arms(items, represented, frozen, live, active.version, arm, live_cvr)

    def _live_cvr(
        self, group: str, active: ActiveKernel, parts: Sequence[Represented], finite: Tensor, asked: _Asked
    ) -> NDArray[np.float32] | None:
        with torch.inference_mode():
            told = list(_scored(parts, None if active.kernel is None else active.kernel.conversion))
        if not told or np.isfinite(logits := np.concatenate(told)[finite.numpy()]).all():
            return logits if told else None
        detail = f"user {asked.user_id!r} got no finite conversion probability"
        self._kernels.discard_conversions(group, active.version, "non_finite_scores", detail)
        return None

    def _left_out(
        self, asked: _Asked, items: list[str], represented: Represented, finite: Tensor
    ) -> tuple[list[str], Represented]:
        """What is left of a request. One bad row must neither cost the others their answer nor blame the kernel."""
        kept = finite.tolist()
        if self._say_left_out.due():
            bad = [item for item, good in zip(items, kept, strict=True) if not good]
            log.error(
                "the backbone gives user %r and %d of %d candidates no finite representation or score (%s and so on): "
                "they are left out of the answer; look at their features and at the backbone",
                *(asked.user_id, len(bad), len(items), ", ".join(bad[:3])),
            )
        return [item for item, good in zip(items, kept, strict=True) if good], represented.rows(finite)

    @staticmethod
    def _scorable(arms: _Arms) -> list[str]:
        if not arms.items:
            raise RequestRefused(
                "not_finite",
                "the frozen backbone gives none of the candidates a finite score: look at the features of this user, "
                "and at the backbone",
                status=503,
            )
        return arms.items

    def _impression(self, request_id: str, shown: _Shown, arms: _Arms) -> ServedImpression:
        represented, order = arms.represented, shown.order
        return ServedImpression.of(
            request_id=request_id,
            time=shown.time,
            user_id=shown.user_id,
            domain=shown.domain,
            items=shown.items,
            fingerprint=self._fingerprint,
            kernel_version=arms.version,
            arm=arms.arm,
            arrays={
                "x": represented.x.numpy()[order],
                "live": represented.live.numpy()[order],
                "content": represented.content.numpy()[order],
                "values": represented.values[order],
                "frozen_logit": arms.frozen[order],
                "live_logit": arms.live[order],
                **_of_conversions(arms, order),
            },
        )
