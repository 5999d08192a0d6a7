"""The same monitor and the same bands in the lab's report as in the demo's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from lab.evaluate.measures import WINDOWS
from lab.evaluate.plots import _curves
from lab.evaluate.prepare import PreparedStream
from lab.evaluate.report import StreamReport
from lab.evaluate.verdicts import stream_verdicts
from lab.verdict_bands import Band, noteworthy
from model.drift.verdict import VerdictKind
from model.encoding.domain import DomainSpace
from tests.lab.evaluate.test_goals import row

SPACE = DomainSpace({"scene": ["home", "search"]})
N, PER_REQUEST, PER_BATCH, DELAY = 9_600, 8, 128, 2
NAN = float("nan")


def prepared(turned_from: int) -> PreparedStream:
    """A stream whose labels are turned over from an example on."""
    rng, row = np.random.default_rng(0), np.arange(N)
    frozen = (-1.5 + 1.3 * rng.standard_normal(N)).astype(np.float32)
    label = rng.random(N) < 1 / (1 + np.exp(-frozen))
    label[turned_from:] ^= True
    request = row // PER_REQUEST
    domain = np.zeros((N, 3), dtype=np.int64)
    domain[:, 0] = 1 + request % 2
    batch = row // PER_BATCH
    return PreparedStream(
        x=rng.standard_normal((N, 4)).astype(np.float16), live=np.zeros((N, 1), np.float32),
        values=np.zeros((N, 1), np.int16), frozen_logit=frozen,
        domain=domain, user=request % 300, item=row % 50, request=request, time=request.astype(np.float64),
        label=label.astype(np.float32), truth=label.astype(np.float32), probability=np.full(N, np.nan),
        decided=np.minimum(batch + DELAY, batch[-1]), corrected=np.full(N, -1), batch=batch,
    )  # fmt: skip


def test_the_monitor_reports_faulty_labels_of_a_prepared_stream_and_their_begin() -> None:
    data = prepared(turned_from=6_000)
    bands = stream_verdicts(data, data.frozen_logit, SPACE)
    faulty = next(band for band in bands if band.kind is VerdictKind.LABELS)
    assert faulty.stratum == "group"
    assert 6_000 < faulty.begin < 8_000
    assert bands[-1].end == N


def test_a_stream_without_changes_shows_no_verdict() -> None:
    data = prepared(turned_from=N)
    assert stream_verdicts(data, data.frozen_logit, SPACE) == ()


def test_only_the_group_and_strata_with_changes_are_shown() -> None:
    quiet, loud = VerdictKind.STABLE, VerdictKind.UNHANDLED
    group, other = Band("a: group", quiet, 0, 9), Band("a: scene=home", quiet, 0, 9)
    assert noteworthy([group, other]) == []
    bands = [group, other, Band("a: scene=search", quiet, 0, 4), Band("a: scene=search", loud, 4, 9)]
    assert noteworthy(bands) == [group, *bands[2:]]


def test_verdicts_are_drawn_below_the_curves_of_their_stream() -> None:
    def axes(*verdicts: Band) -> int:
        figure, curve = Figure(), (0.5,) * WINDOWS
        frozen = replace(row("frozen"), request_curve=curve, curve=curve)
        _curves(figure, StreamReport("s", N, 90, 0.3, NAN, NAN, (), (frozen,), verdicts=verdicts))
        return len(figure.axes)

    assert axes(Band("group", VerdictKind.LABELS, 6_500, N)) == axes() + 1
