"""Scores the candidates of one request by both arms, in slices. It has no broker, web server or clock."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.represented import Represented
from model.control_users import NO_CONTROL, ControlUsers
from model.encoding.domain import Domain
from model.encoding.query import EncodedQuery
from model.kernel.kernel import Kernel
from streaming.events import Arm
from streaming.retries import Throttle
from streaming.scorer.active_kernels import ActiveKernels

log = logging.getLogger(__name__)

_LOG_EVERY_S = 5.0
SLICE_CANDIDATES = 250
"""Candidates scored without a pause. More would hardly be faster per candidate, and other requests would wait longer
(docs/decisions/0102)."""


class CandidateEncoder(Protocol):
    """Reads features and runs the frozen backbone."""

    @property
    def reads_queries(self) -> bool:
        """Whether requests may carry a query."""

    def knows_query(self, text: str) -> bool:
        """Whether `query` returns at once: it has this query cached, or reads none."""

    def query(self, text: str) -> EncodedQuery | None:
        """Encodes a query for the backbone; None if it reads none."""

    def represent(
        self, user_id: str, item_ids: list[str], domain: Domain, time: float, query: EncodedQuery | None = None
    ) -> Represented:
        """Rows of `item_ids` for a user in a domain at an event time, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ScoringContext:
    """The user, domain, time and query that candidates are ranked for."""

    user_id: str
    domain: Domain
    time: float
    query: EncodedQuery | None = None


@dataclass(frozen=True, slots=True)
class ScoredArms:
    """Both arms' logits of one request, in the order of the candidates."""

    items: list[str]
    """Candidates that have finite scores."""
    represented: Represented
    frozen: NDArray[np.float32]
    live: NDArray[np.float32]
    version: int
    """Version of the kernel that made `live`; 0 is the identity."""
    arm: Arm
    """The arm that is served."""
    live_cvr: NDArray[np.float32] | None = None
    """Logits of a conversion given a click by the kernel; None if it does not adapt them."""
    control: bool = False
    """Whether a control user is served."""

    @property
    def cvr(self) -> NDArray[np.float32] | None:
        """Logits of a conversion given a click by the served arm; None for a backbone without conversions."""
        both = self.both_cvr
        return None if both is None else both[self.arm == "live"]

    @property
    def both_cvr(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Logits of a conversion given a click by the frozen and the live arm; None without conversions."""
        logit = self.represented.cvr_logit
        if logit is None:
            return None
        frozen = _array(logit)
        return frozen, frozen if self.live_cvr is None else self.live_cvr

    @property
    def relevance(self) -> NDArray[np.float32] | None:
        """Logits of relevance to the query, which no kernel adapts; None without a query or the task."""
        logit = self.represented.relevance_logit
        return None if logit is None else _array(logit)

    @property
    def served(self) -> NDArray[np.float32]:
        """Logits of the arm that is served."""
        return self.live if self.arm == "live" else self.frozen


class ArmScorer:
    """Scores candidates by the frozen backbone and by the kernel in use."""

    def __init__(
        self,
        encoder: CandidateEncoder,
        kernels: ActiveKernels,
        *,
        live_arm: bool = True,
        control: ControlUsers = NO_CONTROL,
    ) -> None:
        """With `live_arm` False the frozen scores are served exactly; the live ones are only measured."""
        self._encoder, self._kernels = encoder, kernels
        self._live_arm, self._control = live_arm, control
        self._log_left_out = Throttle(_LOG_EVERY_S)

    def _controls(self, user_id: str) -> bool:
        return self._control.share > 0 and self._control.draw(user_id).control

    def score(self, context: ScoringContext, items: list[str], group: str) -> Generator[None, None, ScoredArms]:
        """Scores `items` by both arms, pausing before each slice if there are several."""
        # One reference for the whole request, so that a swap affects only later requests (docs/decisions/0041).
        active = self._kernels.current(group)
        control = self._controls(context.user_id)
        arm: Arm = "frozen" if active.frozen or not self._live_arm or control else "live"
        parts: list[Represented] = []
        lives: list[NDArray[np.float32]] = []
        cvrs: list[NDArray[np.float32]] = []
        for start in range(0, len(items), SLICE_CANDIDATES):
            if len(items) > SLICE_CANDIDATES:
                yield
            with torch.inference_mode():
                part = self._encoder.represent(
                    context.user_id,
                    items[start : start + SLICE_CANDIDATES],
                    context.domain,
                    context.time,
                    context.query,
                )
                parts.append(part)
                if active.kernel is not None:
                    lives.append(_array(active.kernel.logit(part.inputs)))
                    cvrs += _conversions(active.kernel, part)
        represented = Represented.joined(parts)
        finite = represented.finite()
        if not bool(finite.all()):
            items, represented = self._left_out(context, items, represented, finite)
        frozen, who = _array(represented.frozen_logit), (group, active.version, "non_finite_scores")
        live, sound = _kept(lives, finite)
        if not sound:
            self._kernels.discard(*who, f"user {context.user_id!r} got no finite score")
        if live is None or not sound:
            return ScoredArms(items, represented, frozen, frozen, 0, arm, control=control)
        cvr, sound = _kept(cvrs, finite)
        if not sound:
            self._kernels.discard_conversions(*who, f"user {context.user_id!r} got no finite conversion probability")
        return ScoredArms(items, represented, frozen, live, active.version, arm, cvr if sound else None, control)

    def _left_out(
        self, context: ScoringContext, items: list[str], represented: Represented, finite: Tensor
    ) -> tuple[list[str], Represented]:
        """The rows with finite values. One bad row must not cost the others their answer, nor be blamed on the
        kernel."""
        kept = finite.tolist()
        if self._log_left_out.due():
            bad = [item for item, good in zip(items, kept, strict=True) if not good]
            log.error(
                "the backbone gives user %r and %d of %d candidates no finite representation or score (%s and so on): "
                "they are left out of the answer; look at their features and at the backbone",
                *(context.user_id, len(bad), len(items), ", ".join(bad[:3])),
            )
        return [item for item, good in zip(items, kept, strict=True) if good], represented.rows(finite)


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _conversions(kernel: Kernel, part: Represented) -> list[NDArray[np.float32]]:
    """Logits of conversions for one slice; empty if the kernel does not adapt them."""
    if kernel.conversion is None or part.conversion_inputs is None:
        return []
    return [_array(kernel.conversion.logit(part.conversion_inputs))]


def _kept(slices: Sequence[NDArray[np.float32]], finite: Tensor) -> tuple[NDArray[np.float32] | None, bool]:
    """Joins a kernel's logits of the `finite` rows (None if it has none), and says whether they are all finite."""
    if not slices:
        return None, True
    logits = np.concatenate(slices)[finite.numpy()]
    return logits, bool(np.isfinite(logits).all())
