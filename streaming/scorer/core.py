"""Answers one request: checks it, scores by both arms, ranks, and makes the impression. No broker, web server,
clock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from model.control_users import NO_CONTROL, ControlUsers
from model.encoding.domain import Domain, DomainSpace
from model.encoding.query import EncodedQuery
from model.exploration import NO_EXPLORATION, Exploration, Sampled, shown_order
from streaming.events import Payload, ServedImpression
from streaming.events.request_ids import RequestIds
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.arms import ArmScorer, CandidateEncoder, ScoredArms, ScoringContext
from streaming.scorer.blend import Blend, Ranking, probability
from streaming.scorer.schema import ArmScores, FirstPlace, ItemScore, RequestRefused, ScoreRequest, ScoreResponse
from streaming.scorer.score_window import ScoreWindow

T = TypeVar("T")

ARMS = ("frozen", "live")
CLICKS_ALONE = Blend()


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to one request, and the impression that is logged for it."""

    response: ScoreResponse
    impression: ServedImpression


@dataclass(frozen=True, slots=True)
class _Shown:
    """The ranking that the user is shown, first place first."""

    user_id: str
    items: list[str]
    domain: Domain
    time: float
    order: NDArray[np.int64]
    """Indices of `items` among the candidates."""
    sampled: Sampled | None
    """How the first place was drawn; None if all are best first."""


def _both(ranked: list[str], arms: ScoredArms, order: NDArray[np.int64]) -> list[ArmScores]:
    frozen, live = (probability(logit[order]).tolist() for logit in (arms.frozen, arms.live))
    return [ArmScores(*row) for row in zip(ranked, frozen, live, strict=True)]


def _scores(ranked: list[str], arms: ScoredArms, ranking: Ranking, order: NDArray[np.int64]) -> list[ItemScore]:
    """The ranked items with what the score is made of, as far as the backbone predicts it."""
    scores = ranking.score[order].tolist()
    if ranking.cvr is None and ranking.relevance is None:
        return [ItemScore(item, score) for item, score in zip(ranked, scores, strict=True)]
    ctr, unset = probability(arms.served[order]), [UNSET] * len(ranked)
    cvr = None if ranking.cvr is None else ranking.cvr[order]
    columns = (
        ctr.tolist(),
        unset if cvr is None else cvr.tolist(),
        unset if cvr is None else (ctr * cvr).tolist(),
        unset if ranking.relevance is None else ranking.relevance[order].tolist(),
    )
    return [ItemScore(*row) for row in zip(ranked, scores, *columns, strict=True)]


def _of_conversions(arms: ScoredArms, order: NDArray[np.int64]) -> Mapping[Payload, NDArray[np.float32]]:
    """The conversion task's fields of the impression, as served; empty if the backbone predicts no conversions."""
    both, live = arms.both_cvr, arms.represented.cvr_live
    if both is None or live is None:
        return {}
    return {"cvr_live": live.numpy()[order], "cvr_frozen_logit": both[0][order], "cvr_live_logit": both[1][order]}


def _of_draw(sampled: Sampled | None) -> Mapping[Payload, NDArray[np.float64]]:
    """The propensities of the shown items, in their order; empty if nothing was drawn."""
    return {} if sampled is None else {"propensity": shown_order(sampled.chances, sampled.place)}


def _finished(slices: Generator[None, None, T]) -> T:
    """Runs all slices without a pause; returns their result."""
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
        exploration: Exploration = NO_EXPLORATION,
        blend: Blend = CLICKS_ALONE,
        request_ids: RequestIds,
        max_candidates: int = 2_000,
        on_undeclared: Callable[[], None] = lambda: None,
    ) -> None:
        """`fingerprint` is the backbone's. With `live_arm` False the frozen scores are served exactly.

        `on_undeclared` is called for a request with undeclared facet values.
        """
        self._encoder = encoder
        self._fingerprint = fingerprint
        self._kernels = kernels
        self._arms = ArmScorer(encoder, kernels, live_arm=live_arm, control=control)
        self._space = space
        self._groups = groups
        self._group_of = group_of
        self._exploration = exploration
        self._blend = blend
        self._request_ids = request_ids
        self._max_candidates = max_candidates
        self._on_undeclared = on_undeclared
        self.windows: Mapping[tuple[str, str], ScoreWindow] = {
            (group, arm): ScoreWindow() for group in groups for arm in ARMS
        }
        """Recent scores by group and arm."""

    @property
    def reads_queries(self) -> bool:
        """Whether requests may carry a query."""
        return self._encoder.reads_queries

    def warm_up(self, items: list[str]) -> None:
        """Runs one request per group through all steps, without adding to the score windows."""
        for group in self._groups:
            context = ScoringContext("warm-up", Domain(), 0.0, self._encoder.query("warm-up"))
            arms = _finished(self._arms.score(context, items, group))
            if arms.items:
                self._kernels.check_on(group, arms.represented.inputs, arms.represented.conversion_inputs)

    def score(self, request: ScoreRequest, time: float) -> Scored:
        """Ranks the candidates by the served arm; `time` is the event time, seconds. Raises RequestRefused."""
        return _finished(self.in_slices(request, time))

    def new_query(self, request: ScoreRequest) -> str | None:
        """The request's query if it is not cached and must be encoded first, which may be slow. Raises
        RequestRefused."""
        query = request.query
        if query is None or query.isspace() or self._encoder.knows_query(query):
            return None
        self._candidates(request)  # refuse before encoding, so that a bad request delays no other
        return query

    def read_query(self, query: str) -> EncodedQuery | None:
        """Encodes a query, None if the backbone reads none. Safe on another thread while requests are scored."""
        return self._encoder.query(query)

    def in_slices(
        self, request: ScoreRequest, time: float, query: EncodedQuery | None = None
    ) -> Generator[None, None, Scored]:
        """As `score`, pausing before each slice if there are several; refusals come before the first pause.

        `query` is the request's query, if it was encoded before.
        """
        # Refusals first; docs/decisions/0043 says what a request may be.
        candidates = self._candidates(request)
        domain, group = self._domain(request)
        context = ScoringContext(request.user_id, domain, time, self._query(request, group) if query is None else query)
        arms = yield from self._arms.score(context, candidates, group)
        items = self._scorable(arms)
        ranking = self._blend.rank(arms.served, arms.cvr, arms.relevance)
        self.windows[group, "frozen"].add(probability(arms.frozen))
        self.windows[group, "live"].add(probability(arms.live))
        self._kernels.observe(group, arms.represented.inputs, arms.represented.conversion_inputs)
        # Stable, to keep the retrieval's order among equal scores. Logits are sorted, because the sigmoid saturates.
        best = np.argsort(-ranking.key, kind="stable")[: request.top_k]
        request_id = self._request_ids.new(group)
        # Control users never explore, so that they get exactly what the frozen model ranks.
        sampled = None if arms.control else self._exploration.sample(request_id, ranking.key[best])
        order = best if sampled is None else shown_order(best, sampled.place)
        ranked = [items[i] for i in order]
        response = ScoreResponse(
            request_id=request_id,
            kernel_version=arms.version if arms.arm == "live" else 0,
            group=group,
            scores=_scores(ranked, arms, ranking, order),
            duplicates=len(request.candidates) - len(candidates),
            arms=_both(ranked, arms, order) if request.arms else UNSET,
            explored=UNSET if sampled is None else FirstPlace.of(sampled),
        )
        shown = _Shown(request.user_id, ranked, domain, time, order, sampled)
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
        # Feedback on a blank item would be refused at both entry points, so it could never be learned from.
        if any(map(str.isspace, (request.user_id, *request.candidates))):
            raise RequestRefused("invalid_request", "user_id or one of the candidates is blank: give its id")
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
        """Encodes the query once, for all slices of the request."""
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

    @staticmethod
    def _scorable(arms: ScoredArms) -> list[str]:
        if not arms.items:
            raise RequestRefused(
                "not_finite",
                "the frozen backbone gives none of the candidates a finite score: look at the features of this user, "
                "and at the backbone",
                status=503,
            )
        return arms.items

    def _impression(self, request_id: str, shown: _Shown, arms: ScoredArms) -> ServedImpression:
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
                **_of_draw(shown.sampled),
            },
            place=None if shown.sampled is None else shown.sampled.place,
        )
