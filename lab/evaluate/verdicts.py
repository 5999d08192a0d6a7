"""A drift monitor's verdicts on a prepared stream, with the frozen model and the kernel as its two arms.

The lab runs no gate and no join, so their reports are missing; the first examples are the reference.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.prepare import PreparedStream
from lab.verdict_bands import Band, bands, noteworthy
from model.drift.config import DriftConfig
from model.drift.monitor import DriftMonitor
from model.drift.signs import LabelHealth
from model.drift.verdict import Verdict
from model.encoding.domain import DomainSpace
from model.gate.scored_examples import ScoredExamples, Strata


def stream_verdicts(data: PreparedStream, live: NDArray[np.float32], space: DomainSpace) -> tuple[Band, ...]:
    """The verdicts with the spans of served examples in which they held, if there is anything to show.

    `live` `(n,)` are the logits of the learning arm. Labels are given when they are decided; late clicks are not.
    """
    strata = Strata(space.values)
    monitor, healthy = DriftMonitor(strata, None, DriftConfig()), LabelHealth(np.zeros(len(strata), dtype=np.bool_))
    found: list[tuple[float, Verdict]] = []
    shown = np.split(np.arange(len(data)), np.searchsorted(data.batch, np.arange(1, data.batches)))
    order = np.argsort(data.decided, kind="stable")
    known = np.split(order, np.searchsorted(data.decided[order], np.arange(1, data.batches)))
    for rows, decided in zip(shown, known, strict=True):
        time = float(data.time[rows].max(initial=-math.inf))
        monitor.served(data.frozen_logit[rows], live[rows], data.x[rows], data.domain[rows], time)
        if len(decided):
            scored = _scored(data, live, decided)
            monitor.learned(scored, np.ones(len(decided)), np.full(len(decided), np.nan), time)
        found += [
            (float(rows[-1] + 1), output) for output in monitor.judge(healthy, time) if isinstance(output, Verdict)
        ]
    return tuple(noteworthy(bands(found, float(len(data)))))


def _scored(data: PreparedStream, live: NDArray[np.float32], rows: NDArray[np.int64]) -> ScoredExamples:
    _, first, request = np.unique(data.request[rows], return_index=True, return_inverse=True)
    return ScoredExamples(
        label=data.label[rows].astype(np.float64),
        frozen=data.frozen_logit[rows].astype(np.float64),
        live=live[rows].astype(np.float64),
        request=request.astype(np.int64),
        user=[str(user) for user in data.user[rows][first].tolist()],
        item=[str(item) for item in data.item[rows].tolist()],
        domain=data.domain[rows][first],
        version=np.zeros(len(first), dtype=np.int64),
    )
