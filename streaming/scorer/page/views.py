"""Responses of the page's endpoints: declarations for encoding and OpenAPI, and the view that fills them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streaming.config import Right
from streaming.events.decisions import Decision, Order
from streaming.events.status import GroupStatus
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.page.answers import Answer, answers
from streaming.scorer.page.history import StatusHistory
from streaming.scorer.schema import CurrentKernel, RequestRefused, ScoreRequest

_ALARMS = 20
_EXAMPLE_CANDIDATES = 8


class StatusResponse(msgspec.Struct, frozen=True):
    """The state of every kernel group, and recent decisions."""

    run: Annotated[str, Meta(description="Identifies this run of the scorer; if it changes, ask for everything again.")]
    now: Annotated[float, Meta(description="Broker time, seconds since the epoch.")]
    problem: Annotated[str | None, Meta(description="Why the data may be old; null if they are current.")]
    unread: Annotated[int, Meta(description="Records of `status` and `decisions` that could not be decoded.")]
    live_arm: Annotated[bool, Meta(description="False: the kernel is switched off, the frozen arm serves.")]
    queries: Annotated[bool, Meta(description="Whether the backbone reads queries: a request may carry one.")]
    may: Annotated[list[Right], Meta(description="What the caller's key may do; everything where no keys are set.")]
    answers: Annotated[list[Answer], Meta(description="Is interest drifting, is it handled, did we break something.")]
    kernels: Annotated[list[CurrentKernel], Meta(description="The kernel that each group is served by.")]
    groups: Annotated[list[GroupStatus], Meta(description="The newest status of each group that has one.")]
    decision_count: Annotated[int, Meta(description="Send it as `after` to get only later decisions.")]
    decisions: Annotated[
        list[Decision],
        Meta(description="Changes of verdicts, announced drift, actions of gate and operators; oldest first."),
    ]
    alarms: Annotated[list[Decision], Meta(description="The last alarms of single detectors, oldest first.")]
    example: Annotated[ScoreRequest | None, Meta(description="A recent request to this scorer, shortened.")] = None


class HistoryResponse(msgspec.Struct, frozen=True):
    """One stratum over the last hours. All lists have the length of `time`; unknown figures are null."""

    group: str
    stratum: str
    time: Annotated[list[float], Meta(description="Event time, seconds since the epoch.")]
    kernel_version: list[int]
    series: Annotated[
        Mapping[str, Sequence[float | None]],
        Meta(description="By name: `frozen_log_loss`, `live_request_auc`, `label_rate` ..; empty for a new stratum."),
    ]


OrderKind = Literal["pin", "rollback", "freeze", "stop_learning", "resume"]


class OrderRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operator's order; the same orders as `driftline kernel` gives."""

    group: Annotated[str, Meta(min_length=1, max_length=512)]
    order: Annotated[OrderKind, Meta(description="`pin` and `rollback` choose the kernel that is served from now on.")]
    version: Annotated[int, Meta(ge=1, description="Of `pin`; of `rollback`, by default the one before.")] | None = None
    why: Annotated[str, Meta(max_length=500, description="The reason, for the audit.")] = ""
    by: Annotated[str, Meta(max_length=64, description="Who orders it; the key's name is recorded as well.")] = ""


class OrderGiven(msgspec.Struct, frozen=True):
    """The order that now holds for a group; a scorer that obeys it shows `time` as its `ordered_at`."""

    group: str
    pinned_version: int | None
    frozen: bool
    learning: bool
    by: str
    why: str
    time: float

    @classmethod
    def of(cls, order: Order) -> OrderGiven:
        """The response for an order."""
        return cls(order.group, order.pinned_version, order.frozen, order.learning, order.by, order.why, order.time)


class PageView:
    """The page's data, from what this scorer knows."""

    def __init__(
        self,
        history: StatusHistory,
        kernels: ActiveKernels,
        *,
        live_arm: bool,
        reads_queries: bool,
        now: Callable[[], float],
        problem: Callable[[], str | None],
    ) -> None:
        """`now` returns broker time; `problem` says why the history may be old."""
        self._history, self._kernels = history, kernels
        self._live_arm, self._now, self._problem = live_arm, now, problem
        self._reads_queries = reads_queries
        self._run = uuid.uuid4().hex
        self._asked: ScoreRequest | None = None
        self._shown_since: float | None = None

    def asked(self, request: ScoreRequest) -> None:
        """Keeps the newest request as an example, except the page's own, and since when no status has followed."""
        if self._unreported_since() is None:
            self._shown_since = self._now()
        if not request.arms:
            self._asked = request

    def _unreported_since(self) -> float | None:
        """When the first request after the newest status was answered; None if there was none."""
        reported = max((status.wall for status in self._history.newest.values()), default=0.0)
        return self._shown_since if self._shown_since is not None and self._shown_since > reported else None

    def status(self, after: int, may: Sequence[Right] = ()) -> StatusResponse:
        """Everything except the past, for a caller with the rights `may`.

        Of the decisions it returns only those after the first `after`.
        """
        history, now = self._history, self._now()
        statuses = [history.newest[group] for group in history.groups if group in history.newest]
        kernels = [self._kernels.state(group) for group in self._kernels.groups]
        return StatusResponse(
            run=self._run,
            now=now,
            problem=self._problem(),
            unread=history.unread,
            live_arm=self._live_arm,
            queries=self._reads_queries,
            may=list(may),
            answers=answers(
                statuses, kernels, self._kernels.refusals, history.decisions, now, shown_since=self._unreported_since()
            ),
            kernels=kernels,
            groups=statuses,
            decision_count=history.decision_count,
            decisions=history.after(after),
            alarms=list(history.alarms)[-_ALARMS:],
            example=self._example(),
        )

    def _example(self) -> ScoreRequest | None:
        asked = self._asked
        if asked is None:
            return None
        return msgspec.structs.replace(asked, candidates=asked.candidates[:_EXAMPLE_CANDIDATES], top_k=None)

    def past(self, group: str, stratum: str, since: float) -> HistoryResponse:
        """The points of a stratum after event time `since`. Raises RequestRefused for an unknown group."""
        series_by_group = self._history.series_by_group.get(group)
        if series_by_group is None:
            names = ", ".join(self._history.groups)
            raise RequestRefused("unknown_group", f"there is no kernel group {group!r}; the groups are: {names}", 404)
        time, kernel_version, series = series_by_group.since(stratum, since)
        return HistoryResponse(group, stratum, time, kernel_version, series)
