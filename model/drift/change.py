"""Detects that labels have changed against the expectation, in which strata, and by which cause (ours).

Each of the `hypotheses` is tested against the expectation in every stratum by a CUSUM of its log likelihood ratio,

    W <- max(0, W + sum over the examples of log(P(label | hypothesis) / P(label | expected)))

which stays below `A` for `exp(A)` examples on average while labels are as expected (Lorden, 1971; Page, 1954). The
hypothesis with the most evidence names the cause. An announced change becomes the new expectation. So the next change
is judged against it, the end of a change is found like its begin, and strata that only share another stratum's drift
show none of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.announced import Change
from model.drift.expectation import Expectation, probability
from model.drift.hypotheses import CAUSES, HYPOTHESES, Cause, log_ratios
from model.gate.harm import log_losses
from model.gate.scored_examples import Doubles

_CALM = 5.0
"""Nats of evidence below which a stratum's examples may update the expectation."""
_SWITCH = 10.0
"""Nats by which another cause must fit better before it replaces the named one."""
_SURE, _WAIT = 4.0, 1.5
"""Nats by which one cause must lead to be named; multiple of the alarm at which the leading one is named anyway."""
_ELSEWHERE, _HERE = 10.0, 5.0
"""Nats against the change in all other values of a facet, and for it in one value, that place it in that value
alone."""
_STRONG = 1 / 3
"""Share of the strongest value's evidence that a value needs to count as changed with it."""
_MOVES = 2_000.0
"""Examples for which a group's change may be narrowed to a few values; later, its end elsewhere would look the same."""
_MOST = 50.0
"""Multiple of the alarm at which evidence is capped: high enough that causes can still be told apart."""
_AS_MUCH = 0.75
"""Share of a value's evidence that the group must reach for the change to be placed in the group as a whole."""
_ACCEPTED = 10_000.0
"""Examples after which a lower click rate in the expected order is accepted as normal."""
_MEAN_HALF_LIFE = 2_000.0


@dataclass(frozen=True)
class _Lot:
    """Examples with their expectations, `(n,)`; membership weights `(strata, n)`."""

    label: Doubles
    z: Doubles
    live: Doubles
    member: Doubles
    logit: Doubles
    loss: Doubles


_TASTE = np.array([cause is Cause.TASTE for cause in CAUSES])


class ChangeTest:
    """Tests one group's labels for changes, by stratum."""

    def __init__(
        self, facet: Sequence[int], expectation: Expectation, false_alarm_examples: float, least_examples: float
    ) -> None:
        """Nothing is announced before `least_examples` examples, because they establish the expectation."""
        count, self._least = len(facet), least_examples
        self._facet, self._expectation = np.asarray(facet), expectation
        self.alarm = math.log(false_alarm_examples) + math.log(count * len(HYPOTHESES))
        """Nats at which a change, or its end, is announced."""
        self.evidence: Doubles = np.zeros((count, len(HYPOTHESES)))
        """W, nats."""
        self._onset: Doubles = np.full_like(self.evidence, np.nan)
        self._raw: Doubles = np.zeros_like(self.evidence)
        self._before = math.nan
        self._mean, self._count, self._of_all = 0.0, 0.0, np.zeros(count)
        self.changes: list[list[Change]] = [[] for _ in facet]
        """Announced changes that have not ended, by stratum, oldest first."""

    def take(self, label: Doubles, z: Doubles, live: Doubles, member: Doubles, time: float) -> Doubles:
        """Takes labels and the logits of the frozen and the live arm `(n,)`, and membership weights `(strata, n)`.

        Returns the frozen arm's losses under the expectation before all announced changes, `(n,)`.
        """
        expectation = self._expectation
        logit = expectation.logit(member, z)
        p = probability(logit)
        ratios = log_ratios(label, p, self._mean_of(p)) @ member.T
        loss = log_losses(logit, label)
        if any(self.changes):
            self._follow(_Lot(label, z, live, member, logit, loss))
        before = self.evidence
        self.evidence = np.minimum(np.maximum(before + ratios.T, 0.0), _MOST * self.alarm)
        self._onset[(before <= 0) & (self.evidence > 0)] = self._before  # evidence began after the previous block
        self._before = time
        # Evidence of strata from before the group's evidence began does not help to locate the change.
        self._raw = np.where(self.evidence[0] > 0, self._raw + ratios.T, 0.0)
        expectation.see(member, z, p, label)
        self._of_all += member.sum(axis=1)
        if not any(self.changes):
            return loss
        theta = expectation.theta.copy()
        for stratum, changes in enumerate(self.changes):
            if changes:
                theta[stratum] = changes[0].before
        return log_losses(expectation.logit_of(theta, member, z), label)

    def by_cause(self) -> tuple[Doubles, Doubles]:
        """Largest evidence for a change of taste and for a label fault, nats, `(strata,)` each."""
        return self.evidence[:, _TASTE].max(axis=1), self.evidence[:, ~_TASTE].max(axis=1)

    def decide(self, time: float) -> None:
        """Ends changes that are over, corrects their cause or place if another fits better, announces at most one."""
        for stratum, changes in enumerate(self.changes):
            if changes:
                self._reconsider(stratum, changes, time)
        if self._of_all[0] < self._least:  # the expectation is not established yet
            self.evidence[:] = 0.0
        top = self.evidence.max(axis=1)
        taste, labels = self.by_cause()
        sure = (np.abs(taste - labels) >= _SURE) | (top >= _WAIT * self.alarm)
        stratum = int(np.where(sure, top, 0.0).argmax())
        if top[stratum] >= self.alarm and sure[stratum]:
            self._announce(self._where(stratum))
        else:
            self._expectation.believe(top < _CALM)

    def _mean_of(self, p: Doubles) -> float:
        kept = 2.0 ** (-len(p) / _MEAN_HALF_LIFE)
        self._mean, self._count = kept * self._mean + float(p.sum()), kept * self._count + len(p)
        return self._mean / self._count

    # --- announced changes ---

    def _follow(self, lot: _Lot) -> None:
        """Updates all changes with a lot of examples, as one array operation over the changes."""
        inside = [np.flatnonzero(row) for row in lot.member]
        followed = [(n, change) for n, changes in enumerate(self.changes) for change in changes if len(inside[n])]
        if not followed:
            return
        strata, rows = [n for n, _ in followed], [inside[n] for n, _ in followed]
        counts, row = [len(indices) for indices in rows], np.concatenate(rows)
        y, loss, weight = lot.label[row], lot.loss[row], lot.member[np.repeat(strata, counts), row]
        old = self._logits_under([change.before for _, change in followed], strata, rows, lot)
        old_loss = log_losses(old, y)
        ratio, left = loss - old_loss, log_losses(lot.live, lot.label)[row] - loss
        fits = log_ratios(y, probability(old), self._mean / self._count)
        starts = np.cumsum([0, *counts[:-1]])
        sums = np.add.reduceat(np.vstack([np.ones_like(ratio), ratio, left, fits]) * weight, starts, axis=1)
        for at, (n, change) in enumerate(followed):
            change.take(sums[:, at], newest=change is self.changes[n][-1])
            if change.against:
                part = slice(starts[at], starts[at] + counts[at])
                announced = self._logits_under([change.after], [n], [rows[at]], lot)
                against = log_losses(announced, y[part]) - old_loss[part]
                change.against = (np.asarray(change.against) + lot.member[:, rows[at]] @ against).tolist()

    def _logits_under(
        self, thetas: Sequence[Sequence[float]], strata: Sequence[int], rows: Sequence[NDArray[np.int64]], lot: _Lot
    ) -> Doubles:
        """Logits if each of `strata` had the offset and slope of `thetas`, for its `rows`, one after the other."""
        row, counts = np.concatenate(rows), [len(indices) for indices in rows]
        shift = np.array(thetas) - self._expectation.theta[[*strata]]
        return lot.logit[row] + self._expectation.correction(np.repeat(shift, counts, axis=0).T, lot.z[row])

    def _reconsider(self, stratum: int, changes: list[Change], time: float) -> None:
        """Ends, accepts or moves one of a stratum's changes if the examples since speak for it; otherwise corrects the
        cause of the newest one."""
        for change in list(changes):
            if change.against and change.examples <= _MOVES and self._moved(change):
                return
            if change.name == "lost" and change.examples >= _ACCEPTED:
                changes.remove(change)  # a lasting rate in the expected order is accepted as normal, as in the gate
                return
            if change.back >= self.alarm:
                self._expectation.put_back(stratum, np.asarray(change.before))
                del changes[changes.index(change) :]
                self._begin_anew(stratum)
                return
        last, fits = changes[-1], np.asarray(changes[-1].fits)
        best = int(fits.argmax())
        if CAUSES[best] is not last.cause and fits[best] - fits[(last.cause is Cause.TASTE) == _TASTE].max() > _SWITCH:
            last.cause, last.name = CAUSES[best], HYPOTHESES[best].name

    def _moved(self, change: Change) -> bool:
        """Whether a change of the group turned out to be one of a few values of a facet; it is then moved to them."""
        against = np.asarray(change.against)
        here = self._only_here(against)
        if len(here):
            self._move(change, here, against)
        return bool(len(here))

    def _only_here(self, against: Doubles) -> NDArray[np.int64]:
        """The values of one facet that alone have changed, from the evidence against a change by stratum, nats.

        A value with an announced change of its own is no witness, because a second change may not show there.
        """
        best, most = np.zeros(0, dtype=np.int64), _ELSEWHERE
        witness = np.array([not changes for changes in self.changes])
        for facet in range(1, int(self._facet.max()) + 1):
            values = np.flatnonzero(self._facet == facet)
            least = max(_HERE, -_STRONG * float(against[values].min()))
            here, elsewhere = values[against[values] < -least], values[(against[values] > 0) & witness[values]]
            if len(here) and against[elsewhere].sum() > most:
                best, most = here, float(against[elsewhere].sum())
        return best

    def _move(self, change: Change, here: NDArray[np.int64], against: Doubles) -> None:
        """Replaces a change of the group by one in each of the strata `here`, whose evidence is `-against`, nats."""
        shift = self._expectation.theta[0] - np.asarray(change.before)
        self.changes[0].remove(change)
        self._expectation.put_back(0, np.asarray(change.before))
        for stratum in here.tolist():
            before = self._expectation.theta[stratum].tolist()
            self._expectation.theta[stratum] += shift
            after, nats = self._expectation.theta[stratum].tolist(), -float(against[stratum])
            moved = Change(change.cause, change.name, change.since, before, after, nats, fits=change.fits)
            self.changes[stratum].append(moved)
        self._begin_anew(0)

    # --- announcing ---

    def _where(self, stratum: int) -> int:
        """The stratum that explains a change best: one value that makes up nearly all of the group counts as the
        group."""
        group = self.evidence[0]
        if stratum and group.max() >= _AS_MUCH * self.evidence[stratum].max():
            return 0
        here = self._only_here(-self._raw[:, group.argmax()]) if not stratum else np.array([stratum])
        return int(here[self.evidence[here].max(axis=1).argmax()]) if len(here) else 0

    def _announce(self, stratum: int) -> None:
        """Adds the change that the evidence favours to a stratum without one, or a label fault to one whose taste has
        changed. Otherwise renews the newest change. Fits the expectation to it in each case."""
        chosen = int((self.evidence[stratum] + _SURE * _TASTE).argmax())  # a tie is decided for taste, not labels
        hypothesis, changes = HYPOTHESES[chosen], self.changes[stratum]
        nats = float(self.evidence[stratum, chosen])
        if not changes or (changes[-1].cause is Cause.TASTE and hypothesis.cause is Cause.LABELS):
            before = self._expectation.theta[stratum].tolist()
            change = Change(
                hypothesis.cause,
                hypothesis.name,
                float(self._onset[stratum, chosen]),
                before,
                before,
                nats,
                fits=self.evidence[stratum].tolist(),
                against=(-self._raw[:, chosen]).tolist() if stratum == 0 else [],
            )
            changes.append(change)
        else:
            changes[-1].back = 0.0
        self._expectation.refit(stratum)
        changes[-1].after = self._expectation.theta[stratum].tolist()
        self._begin_anew(stratum)

    def _begin_anew(self, stratum: int) -> None:
        """Clears the evidence of all strata that share examples with the one whose expectation has changed."""
        shared = (self._facet != self._facet[stratum]) | (np.arange(len(self._facet)) == stratum)
        self.evidence[shared] = 0.0
        self._raw[:] = 0.0
        self._expectation.forget(shared)

    # --- state ---

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "arrays": {name: getattr(self, name).tobytes() for name in _ARRAYS},
            "mean": [self._mean, self._count, self._before],
            "changes": [
                [{**asdict(change), "cause": str(change.cause)} for change in changes] for changes in self.changes
            ],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        for name in _ARRAYS:
            value = getattr(self, name)
            setattr(self, name, np.frombuffer(state["arrays"][name]).reshape(value.shape).copy())
        self._mean, self._count, self._before = (float(value) for value in state["mean"])
        self.changes = [
            [Change(**{**change, "cause": Cause(change["cause"])}) for change in changes]
            for changes in state["changes"]
        ]


_ARRAYS = ("evidence", "_onset", "_raw", "_of_all")
