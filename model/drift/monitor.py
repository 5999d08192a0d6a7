"""The drift monitor of one kernel group: it takes served and learned examples and returns changed verdicts and alarms.

1. `served`: inputs against the reference, and the expected performance of the live arm;
2. `learned`: labels against the expectation, live against frozen arm, the single detectors;
3. `judge`: one verdict for each stratum, in words.

It has no broker, clock or global. The same calls give the same verdicts, even across `state` and `load`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.by_user import UserEvidence
from model.drift.causes import Causes
from model.drift.change import ChangeTest
from model.drift.config import MONITORED_INPUTS, DriftConfig
from model.drift.expectation import Expectation, probability
from model.drift.expected import ExpectedPerformance
from model.drift.hypotheses import Cause
from model.drift.inputs import DISTANCES, InputDistances
from model.drift.latches import Latches
from model.drift.live_arm import LiveArm
from model.drift.measures import LABEL_ALARMS, StratumMeasures
from model.drift.reference import Reference, monitored_inputs
from model.drift.signs import NAN, LabelHealth, Signals
from model.drift.singles import SINGLES, Singles
from model.drift.verdict import Alarm, Verdict
from model.drift.verdicts import Verdicts
from model.drift.windows import Decaying
from model.gate.harm import log_losses
from model.gate.scored_examples import Doubles, ScoredExamples, Strata

_SERVED_BLOCK, _LEARNED_BLOCK = 1_024, 256
"""Examples per look; larger blocks cost hardly more than small ones (docs/decisions/0130)."""
_LEAST = 128.0
_REFUSED_HALF_LIFE = 500.0
_CENTRE = -1.5
_HARD = 0.5, 2.0
"""A reference slope outside these bounds means that the model's probabilities never fitted. Inside, a slope off 1 may
come from a reference made of the model's own training examples."""
_DISTANT = 0.1, 0.2, 0.1
"""Thresholds of an input's alarms: PSI, Jensen-Shannon, KS."""
_OFF = 0.5
"""Threshold of the miscalibration alarm, as a logarithm of mean score over mean label."""


class DriftMonitor:
    """Watches one kernel group for drift."""

    def __init__(self, strata: Strata, reference: Reference | None, config: DriftConfig) -> None:
        """Without a `reference` the first examples become the reference; until then inputs are not judged."""
        count, facet = len(strata), strata.facet
        self._strata, self._config = strata, config
        self._names = [strata.name(n) for n in range(count)]
        centre = _CENTRE if reference is None else reference.centre
        expectation = Expectation(facet, centre)
        if reference is None or not _HARD[0] < reference.slope < _HARD[1]:
            expectation.loosen()
        self._test = ChangeTest(facet, expectation, config.false_alarm_examples, config.least_examples)
        self._expectation, self._arm = expectation, LiveArm(facet, config.false_alarm_examples)
        self._inputs, self._expected = (
            InputDistances(count, reference, config.inputs),
            ExpectedPerformance(facet, centre),
        )
        self._measures, self._singles = StratumMeasures(count), Singles(self._names)
        self._causes, self._crossing = Causes(count, config.least_examples), Latches(self._names, _CROSSING)
        alarms = {"taste": self._test.alarm, "labels": self._test.alarm, "gap": self._arm.alarm}
        self._latches = Latches(self._names, [("change", signal, alarms[signal]) for signal in _CHANGES])
        self._users = UserEvidence()
        self._refused = Decaying(count, _REFUSED_HALF_LIFE, {"count": (), "refused": ()})
        self._served: list[NDArray[np.float32]] = []
        self._learned: list[Doubles] = []
        self._served_examples = self._learned_examples = 0
        self._fresh = False
        """Whether anything came since the last `judge`."""
        self._distances: Doubles = self._inputs.distances()
        self._time = -math.inf
        self._alarms: list[Alarm] = []
        self._verdicts = Verdicts(self._names)

    # --- inputs ---

    @property
    def room(self) -> int:
        """How many more served examples fit into the block of the next look."""
        return _SERVED_BLOCK - self._served_examples

    def served(
        self,
        frozen: NDArray[np.floating],
        live: NDArray[np.floating],
        x: NDArray[np.floating],
        domain: NDArray[np.int64] | tuple[int, int, int],
        time: float,
    ) -> None:
        """Takes impressions before their labels: logits `(n,)`, representations `(n, width)` and facet indices.

        Facet indices are `(n, 3)`, or `(3,)` for all. `time` is the event time of the newest impression, s.
        """
        self.move_on(time)
        values = np.empty((len(frozen), _SERVED_COLUMNS), dtype=np.float32)
        values[:, 0], values[:, 1:_DOMAIN], values[:, _DOMAIN:] = live, monitored_inputs(x, frozen), domain
        self._served.append(values)
        self._served_examples += len(values)
        if self._served_examples >= _SERVED_BLOCK:
            self._look_at_served()

    def learned(self, seen: ScoredExamples, weight: Doubles, candidate: Doubles, time: float) -> None:
        """Takes a micro-batch after the gate has decided about it.

        `weight` `(n,)` comes from the shares of users and items (`GuardedBatch.weight`). `candidate` `(n,)` are the
        candidate's logits before it learned, NaN if it did not. `time` is the batch's newest event time, s.
        """
        self.move_on(time)
        block = np.empty((len(weight), _LEARNED_COLUMNS))
        columns = seen.label, seen.frozen, seen.live, weight, candidate, *self._users.weigh(seen)
        for column, values in enumerate(columns):
            block[:, column] = values
        block[:, _LEARNED_DOMAIN:] = seen.domain[seen.request]
        self._learned.append(block)
        self._learned_examples += len(weight)
        if self._learned_examples >= _LEARNED_BLOCK:
            self._look_at_learned()

    def judge(self, health: LabelHealth, time: float) -> list[Verdict | Alarm]:
        """Returns the verdicts and alarms that changed since the last call; to be called after each micro-batch."""
        self.move_on(time)
        self._measures.take_health(health)
        examples = self._measures.examples
        labels_changed = self._causes.report_labels(health, self._arm, self._test, examples, self._time)
        if not (labels_changed or self._fresh):
            return []
        self._fresh = False
        alarms, self._alarms = [*self._alarms, *self._crossed()], []
        findings = self._causes.find(self._test, self._arm, examples, self._distances[:, :, 0])
        return [*alarms, *self._verdicts.follow(findings, examples, self._standing_alarms, self._time)]

    def _standing_alarms(self, stratum: int) -> list[str]:
        return [*self._latches.of(stratum), *self._crossing.of(stratum)]

    def move_on(self, time: float) -> None:
        """Advances event time to `time`, s."""
        if math.isfinite(time):
            self._time = max(self._time, time)

    # --- one look per block ---

    def _look_at_served(self) -> None:
        """Passes on what was served since the last look, one block for all, and judges the inputs by it."""
        block = np.concatenate(self._served)
        self._served, self._served_examples, self._fresh = [], 0, True
        finite = np.isfinite(block).all(axis=1)
        domain = block[:, _DOMAIN:].astype(np.int64)
        member, strata = self._strata.of(domain).astype(np.float64), self._strata.numbers(domain[finite])
        passed = member.sum(axis=1)
        self._measures.served += passed
        self._refused.add(passed, {"count": passed, "refused": member @ ~finite})
        sound, member = block[finite].astype(np.float64), member[:, finite]
        self._inputs.take(sound[:, 1:_DOMAIN], strata)
        self._expected.served(sound[:, 0], member, strata)
        self._distances = self._inputs.distances()
        psi = np.fmax.reduce(self._distances[:, :, 0], axis=1)
        sums = self._refused.sums
        refused = np.where(sums["count"] >= _LEAST, sums["refused"] / np.maximum(sums["count"], 1), 0.0)
        self._causes.inputs(psi, refused, self._inputs.jump, self._time)

    def _look_at_learned(self) -> None:
        """Passes on what was learned since the last look. Examples with faulty inputs test no label."""
        block = np.concatenate(self._learned)
        self._learned, self._learned_examples, self._fresh = [], 0, True
        finite = np.isfinite(block[:, :4]).all(axis=1)
        if not finite.all():
            refused = block[~finite, _LEARNED_DOMAIN:].astype(np.int64)
            self._measures.refused += self._strata.of(refused).sum(axis=1)
            block = block[finite]
        domain, columns = (
            block[:, _LEARNED_DOMAIN:].astype(np.int64),
            np.ascontiguousarray(block[:, :_LEARNED_DOMAIN].T),
        )
        label, frozen, live, weight, candidate, user, evidence = columns
        member, logits = self._strata.of(domain) * weight, np.array([frozen, live, candidate])
        self._measures.take(label, logits, member, self._strata.numbers(domain))
        if len(label) and not self._causes.far[0]:  # labels cannot be judged while inputs are at fault
            if self._causes.far.any():
                member = member * ~(member[self._causes.far] > 0).any(axis=0)
            if not any(change.cause is Cause.LABELS for change in self._test.changes[0]):
                self._users.see(user, probability(self._expectation.logit(member, frozen)), label)
            self._test_labels(label, frozen, live, member, evidence)

    def _test_labels(self, label: Doubles, frozen: Doubles, live: Doubles, member: Doubles, evidence: Doubles) -> None:
        """Tests labels `(n,)` of examples with sound inputs; `member`, `(strata, n)`, holds their weights."""
        sound, worth = self._causes.sound(self._test, self._measures.examples), member * evidence
        before = self._test.take(label, frozen, live, worth, self._time)
        self._expected.learned(label, live, member)
        self._arm.take(log_losses(live, label), before, worth, sound, self._time)
        residual = label - 1 / (1 + np.exp(-frozen))
        self._alarms += self._singles.take(before, residual, member, self._time)
        self._alarms += self._evidence_alarms()
        standing = len(self._test.changes[0])
        self._test.decide(self._time)
        if len(self._test.changes[0]) > standing:
            self._users.doubt()

    def _evidence_alarms(self) -> list[Alarm]:
        """Alarms of the tests behind the verdicts, read before an announced change becomes the expectation."""
        return self._latches.judge(np.array([*self._test.by_cause(), self._arm.evidence]), self._time)

    def _crossed(self) -> list[Alarm]:
        """Measures that crossed a threshold since the last call, in the order of `_CROSSING`."""
        values = np.full((len(_CROSSING), len(self._names)), NAN)
        values[0], values[1:_OF_INPUTS, 0] = self._measures.off("frozen"), self._measures.of_labels()
        values[_OF_INPUTS:] = self._distances.reshape(len(self._names), -1).T
        return self._crossing.judge(values, self._time)

    # --- results ---

    @property
    def verdicts(self) -> list[Verdict]:
        """One verdict per stratum, in their order; a verdict on the whole group is passed on to its stable strata."""
        return self._verdicts.present(self._measures.examples)

    def signals(self) -> list[Signals]:
        """One per stratum, in their order."""
        inputs: list[Mapping[str, Mapping[str, float]]] = [
            {what: dict(zip(DISTANCES, row, strict=True)) for what, row in zip(MONITORED_INPUTS, one, strict=True)}
            for one in self._distances.tolist()
        ]
        return self._measures.signals(self._names, self._expected.measures(), self._arm.gap, inputs)

    # --- state ---

    def state(self) -> dict[str, Any]:
        """For a snapshot: numbers, strings and bytes."""
        return {
            **{name: getattr(self, f"_{name}").state() for name in _PARTS},
            "served": np.concatenate([_NO_SERVED, *self._served]).tobytes(),
            "learned": np.concatenate([_NO_LEARNED, *self._learned]).tobytes(),
            "time": self._time,
            "fresh": self._fresh,
            "alarms": [asdict(alarm) for alarm in self._alarms],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`. Strata and reference must be the same as then."""
        for name in _PARTS:
            getattr(self, f"_{name}").load(state[name])
        self._served = [np.frombuffer(state["served"], dtype=np.float32).reshape(-1, _SERVED_COLUMNS).copy()]
        self._learned = [np.frombuffer(state["learned"]).reshape(-1, _LEARNED_COLUMNS).copy()]
        self._served_examples, self._learned_examples = len(self._served[0]), len(self._learned[0])
        self._time, self._fresh = float(state["time"]), bool(state["fresh"])
        self._alarms = [Alarm(**alarm) for alarm in state["alarms"]]
        self._distances = self._inputs.distances()


_PARTS = ("test", "expectation", "arm", "inputs", "expected", "measures", "singles", "causes", "latches", "crossing",
          "refused", "users", "verdicts")  # fmt: skip
_CROSSING = (
    ("threshold", "calibration", _OFF),
    *(("threshold", signal, threshold) for signal, threshold in LABEL_ALARMS),
    *(
        (distance, signal, far)
        for signal in MONITORED_INPUTS
        for distance, far in zip(DISTANCES, _DISTANT, strict=True)
    ),
)
"""Measures with an alarm of their own: detector, signal, threshold."""
_CHANGES = ("taste", "labels", "gap")
ALARMS: tuple[tuple[str, str], ...] = (
    *((detector, signal) for detector, signal, _ in _CROSSING),
    *(("change", signal) for signal in _CHANGES),
    *SINGLES,
)
"""Detector and signal of every alarm that a monitor may give."""
_OF_INPUTS = 1 + len(LABEL_ALARMS)
_DOMAIN = 1 + len(MONITORED_INPUTS)
_SERVED_COLUMNS = _DOMAIN + 3
"""Columns of a served example that waits for its block: live logit, watched inputs, facet indices."""
_LEARNED_DOMAIN = 7
_LEARNED_COLUMNS = _LEARNED_DOMAIN + 3
"""Columns of a learned one: label, frozen and live logit, weight, candidate's logit, user, weight as evidence,
facets."""
_NO_SERVED = np.zeros((0, _SERVED_COLUMNS), dtype=np.float32)
_NO_LEARNED = np.zeros((0, _LEARNED_COLUMNS))
