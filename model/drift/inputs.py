"""Distance of inputs and scores from the reference, by stratum, measured as soon as a request is served.

Three distances between the recent share `q` and the reference's share `p` of each bin (deciles of the reference):

    PSI   sum (q - p) log(q / p)
    JSD   sqrt of the Jensen-Shannon divergence in bits, 0 to 1 (Endres and Schindelin, 2003)
    KS    largest difference of the distribution functions at the edges

Few examples alone make each distance positive. With `B` bins and `n` independent examples against `m`, the PSI is
`(B - 1) (1/n + 1/m)` on average (its chi-squared limit; Yurdakul, 2018), the divergence an eighth of that in nats, and
KS stays below `sqrt((1/n + 1/m) log(2/a) / 2)` with probability `1 - a`. These amounts are subtracted. `n` counts
sessions, not examples, because the items shown to one user depend on each other.

A feature that goes empty for everybody moves all inputs a little and at once, less than a season moves one input in
months. For the group the jump is therefore watched too: the mean PSI of the newest examples against those before them,
as a multiple of its usual value. A level that lasts becomes the usual one (ours, docs/decisions/0140).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.config import MONITORED_INPUTS
from model.drift.reference import BINS, Reference, counted
from model.drift.windows import Decaying
from model.gate.scored_examples import Doubles

DISTANCES = ("psi", "jensen_shannon", "ks")
HALF_LIFE = 500.0
_TOGETHER = 30.0
"""Examples that count as one independent observation: a session of some requests."""
_FIRST = 5_000.0
"""Examples that become the reference if the backbone has none."""
_LEAST = 250.0
"""Least examples on either side; with fewer, distances are NaN."""
_FLOOR = 1e-3
_KS_LEVEL = 1e-3
_PAST_HALF_LIFE = 8_000.0
"""Half-life in examples of the group's past, which the newest examples are compared with."""
_USUAL, _USUAL_MASS = 0.03, 4_000.0
"""Usual mean PSI between newest and earlier examples before any was measured, and the examples it counts for."""
_PAST_MASS = 2_000.0
_KNOWN_MASS = 6_000.0
"""Mass from which the usual distance counts as known, reached after four looks."""
_MOST = 2.0
"""Largest multiple of the usual distance with which one look enters the usual distance."""


class InputDistances:
    """Recent distributions of the watched inputs, and the reference."""

    def __init__(self, strata: int, reference: Reference | None, inputs: Collection[str] = MONITORED_INPUTS) -> None:
        """`inputs` are those that distances are computed for."""
        self._reference = reference
        self._judged: NDArray[np.bool_] = np.array([name in inputs for name in MONITORED_INPUTS])
        self._first: list[Doubles] = []
        """Values of the first examples, collected until they make a reference."""
        self._window = Decaying(strata, HALF_LIFE, {"count": (), "bins": (len(MONITORED_INPUTS), BINS)})
        self._past: Doubles = np.zeros((len(MONITORED_INPUTS), BINS))
        self._usual: Doubles = np.array([_USUAL * _USUAL_MASS, _USUAL_MASS])
        """Sum of mean PSI times examples, and sum of examples: their ratio is the usual distance."""
        self.jump = 0.0
        """Distance of the group's newest examples from those before them, as a multiple of the usual one."""
        self.own_reference = reference is None
        if reference is not None:
            self._past = _of_group(reference)

    @property
    def knows(self) -> bool:
        """Whether there is a reference."""
        return self._reference is not None

    def take(self, values: Doubles, strata: NDArray[np.int64]) -> None:
        """Takes values `(n, watched)` of examples in strata `(n, 4)`."""
        if self._reference is None:
            self._begin(values, strata)
            return
        count = len(self._window.sums["count"])
        bins = counted(values, self._reference.edges, strata, count)
        passed = bins[:, 0].sum(axis=1)
        self._window.add(passed, {"count": passed, "bins": bins})
        if passed[0]:
            self._compare(bins[0], float(passed[0]))

    def _compare(self, bins: Doubles, passed: float) -> None:
        """Compares the group's newest bins `(watched, BINS)` with its past."""
        psi = float(_psi(_shares(self._window.sums["bins"][0]), _shares(self._past))[self._judged].mean())
        usual, kept = self._usual[0] / self._usual[1], 2.0 ** (-passed / _PAST_HALF_LIFE)
        if self._window.sums["count"][0] >= _LEAST:
            self.jump = psi / float(usual) if self._usual[1] >= _KNOWN_MASS else 0.0
            self._usual = kept * self._usual + passed * np.array([min(psi, _MOST * usual), 1.0])
        self._past = kept * self._past + bins

    def _begin(self, values: Doubles, strata: NDArray[np.int64]) -> None:
        """Collects the first examples until they are enough to become the reference."""
        self._first.append(np.column_stack([values, strata]))
        if sum(len(block) for block in self._first) < _FIRST:
            return
        whole, self._first = np.concatenate(self._first), []
        values, strata = whole[:, : len(MONITORED_INPUTS)], whole[:, len(MONITORED_INPUTS) :].astype(np.int64)
        edges = np.quantile(values, np.arange(1, BINS) / BINS, axis=0).T
        counts = counted(values, edges, strata, len(self._window.sums["count"]))
        self._reference = Reference(edges, counts, float(values[:, 0].mean()), 1.0)
        self._past = _of_group(self._reference)

    def distances(self) -> Doubles:
        """Distances by stratum and input, in the order of `DISTANCES`, `(strata, watched, 3)`; NaN if unknown."""
        recent = self._window.sums["bins"]
        out = np.full((*recent.shape[:2], len(DISTANCES)), np.nan)
        if self._reference is None:
            return out
        n, m = self._window.sums["count"], self._reference.counts[:, 0].sum(axis=1)
        known = (n >= _LEAST) & (m >= _LEAST)
        if known.any():
            noise = _TOGETHER * (1 / n[known] + 1 / m[known])
            out[known] = _distances(recent[known], self._reference.counts[known], noise[:, None])
        out[:, ~self._judged] = np.nan
        return out

    def state(self) -> dict[str, Any]:
        """For a snapshot. It includes the reference if that was made of the first examples."""
        own = self._reference if self.own_reference else None
        first = np.concatenate(self._first) if self._first else np.zeros((0, len(MONITORED_INPUTS) + 4))
        return {
            "window": self._window.state(),
            "first": first.tobytes(),
            "past": self._past.tobytes(),
            "usual": [*self._usual.tolist(), self.jump],
            "own": None if own is None else [own.edges.tobytes(), own.counts.tobytes(), own.centre],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._window.load(state["window"])
        first = np.frombuffer(state["first"]).reshape(-1, len(MONITORED_INPUTS) + 4).copy()
        self._first = [first] if len(first) else []
        self._past = np.frombuffer(state["past"]).reshape(self._past.shape).copy()
        *usual, self.jump = (float(value) for value in state["usual"])
        self._usual = np.array(usual)
        if state["own"] is not None and self.own_reference:
            edges, counts, centre = state["own"]
            shape = self._window.sums["bins"].shape
            self._reference = Reference(
                np.frombuffer(edges).reshape(len(MONITORED_INPUTS), BINS - 1).copy(),
                np.frombuffer(counts).reshape(shape).copy(), float(centre), 1.0,
            )  # fmt: skip


def _distances(recent: Doubles, reference: Doubles, noise: Doubles) -> Doubles:
    """Distances of counts by bin `(strata, watched, BINS)`, less what few examples cause by chance."""
    q, p = _shares(recent), _shares(reference)
    psi = _psi(q, p)
    half = (p + q) / 2
    divergence = ((p * np.log(p / half)).sum(axis=2) + (q * np.log(q / half)).sum(axis=2)) / 2
    ks = np.abs(np.cumsum(q - p, axis=2)).max(axis=2)
    bias = (BINS - 1) * noise
    return np.stack(
        [
            np.maximum(psi - bias, 0.0),
            np.sqrt(np.clip(divergence - bias / 8, 0.0, np.log(2)) / np.log(2)),
            np.maximum(ks - np.sqrt(noise * np.log(2 / _KS_LEVEL) / 2), 0.0),
        ],
        axis=2,
    )


def _shares(counts: Doubles) -> Doubles:
    return np.asarray(np.maximum(counts / counts.sum(axis=-1, keepdims=True), _FLOOR))


def _psi(q: Doubles, p: Doubles) -> Doubles:
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def _of_group(reference: Reference) -> Doubles:
    """The group's past before the stream, taken from the reference."""
    return np.asarray(_PAST_MASS * reference.counts[0] / reference.counts[0].sum(axis=1, keepdims=True))
