"""Measures of one run's logits; labels are what users really did, not what a corrupted log says.

There are few examples around the return of an old taste. Scripted streams therefore use the true probabilities there
instead of clicks, and the AUC is the expected one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.prepare import PreparedStream
from lab.streams import DriftSpan
from model.encoding.domain import FACETS, DomainSpace
from model.evaluation import (
    auc,
    calibration,
    expected_auc,
    grouped_auc,
    grouped_ndcg,
    log_loss,
    mixed_groups,
    normalised_entropy,
    sigmoid,
)

WINDOWS = 20
"""Stretches of equally many examples over which the curves are drawn."""
AROUND_RETURN = ("before the drift", "before the return", "1st quarter after", "2nd", "3rd", "4th")
"""Spans around the return of an old taste with an AUC of their own; quarters are those of the tenth after it."""
FIRST_EXAMPLES = (100, 500, 2_000)
"""Numbers of first examples of a new facet value over which its ranking is measured."""
_NEW_AFTER = 0.1
"""Share of the live half after which a facet value counts as new."""
LEAST = 200
"""Examples below which no AUC is computed, because it would be noise."""
Rows = NDArray[np.bool_] | NDArray[np.intp]
"""A choice of examples: a mask or indices."""


@dataclass(frozen=True)
class Measures:
    """Measures of one adapter, stream and seed."""

    request_auc: float
    """AUC within each request that holds both labels, weighted by its items: what a ranker is for."""
    ndcg_5: float
    """NDCG at 5 within requests, mean over those that hold both labels."""
    ndcg_10: float
    lists: int
    """Requests that hold both labels."""
    auc: float
    log_loss: float
    normalised_entropy: float
    calibration: float
    request_curve: tuple[float, ...]
    """AUC within requests per window; a request counts in the window of its first item."""
    curve: tuple[float, ...]
    """AUC per window."""
    windowed_auc: float
    """Mean of the curve: ranking alone, whatever the level of all scores does from window to window."""
    log_loss_curve: tuple[float, ...]
    drift_auc: float
    """AUC over the examples inside any drift span; not-a-number without drift."""
    domains: Mapping[str, float]
    """AUC per facet value, `facet=value`; of a new one also over its first examples, `facet=value, first 100`."""
    spans: Mapping[str, float]
    """AUC inside each drift span, by `name@start`."""
    returned: float
    """AUC in the tenth of the stream after an old regime came back, mean over returns; not-a-number without one."""
    before: float
    """AUC before the first drift."""
    around_return: tuple[float, ...]
    """AUC at each of `AROUND_RETURN`, means over the returns; empty without one."""


# scikit-learn's roc_auc_score and log_loss give the same (a test holds that), but take 4 ms a call however few the
# examples: ten times as long as ours on 15 000, and there are hundreds of requests. A run takes some sixty calls.
def measure(
    data: PreparedStream, logit: NDArray[np.float32], spans: Sequence[DriftSpan], space: DomainSpace
) -> Measures:
    """All measures of one prequential run, by window, span and domain."""
    score = sigmoid(logit)
    label = data.truth
    windows = np.array_split(np.arange(len(data)), WINDOWS)
    inside = [within(data, span) for span in spans]
    anywhere = np.logical_or.reduce(inside) if inside else np.zeros(len(data), dtype=bool)
    curve = tuple(auc(label[w], logit[w]) for w in windows)
    before = _true_area(data, logit, data.time < min((span.start for span in spans), default=np.inf))
    after = returns(data, spans)
    around = [(before, *_around(data, logit, mask)) for mask in after]
    return Measures(
        request_auc=grouped_auc(label, logit, data.request),
        ndcg_5=grouped_ndcg(label, logit, data.request, 5),
        ndcg_10=grouped_ndcg(label, logit, data.request, 10),
        lists=mixed_groups(label, data.request),
        auc=auc(label, logit),
        log_loss=log_loss(label, score),
        normalised_entropy=normalised_entropy(label, score),
        calibration=calibration(label, score),
        request_curve=_request_curve(data, logit),
        curve=curve,
        windowed_auc=mean_known(curve),
        log_loss_curve=tuple(log_loss(label[w], score[w]) for w in windows),
        drift_auc=_area(label, logit, anywhere),
        domains=_by_domain(data, logit, space),
        spans={span_key(s, spans): _area(label, logit, mask) for s, mask in zip(spans, inside, strict=True)},
        returned=mean_known([_true_area(data, logit, mask) for mask in after]),
        before=before,
        around_return=tuple(mean_known(part) for part in zip(*around, strict=True)),
    )


def _request_curve(data: PreparedStream, logit: NDArray[np.float32]) -> tuple[float, ...]:
    position = np.arange(len(data))
    first = np.maximum.accumulate(np.where(np.diff(data.request, prepend=-1) != 0, position, 0))
    window = first * WINDOWS // len(data)
    parts = [window == number for number in range(WINDOWS)]
    return tuple(grouped_auc(data.truth[part], logit[part], data.request[part]) for part in parts)


def span_key(span: DriftSpan, spans: Sequence[DriftSpan]) -> str:
    """Name of a span, numbered where a name comes twice."""
    same_name = [other for other in spans if other.name == span.name]
    return span.name if len(same_name) == 1 else f"{span.name} {same_name.index(span) + 1}"


def within(data: PreparedStream, span: DriftSpan) -> NDArray[np.bool_]:
    """Examples inside a span (its time alone: other domains suffer or hold still, and that is part of it)."""
    return np.asarray((data.time >= span.start) & (data.time < span.end))


def returns(data: PreparedStream, spans: Sequence[DriftSpan]) -> list[NDArray[np.bool_]]:
    """For each return of an old taste, indices of the examples in the tenth of the stream after it."""
    tenth = (data.time[-1] - data.time[0]) / 10
    ends = [span.end for span in spans if span.returns and span.kind == "taste"]
    return [np.asarray((data.time >= end) & (data.time < end + tenth)) for end in ends]


def _around(data: PreparedStream, logit: NDArray[np.float32], after: NDArray[np.bool_]) -> list[float]:
    """AUC in the tenth before a return and in the quarters of `after`, the tenth that follows it."""
    rows = np.flatnonzero(after)
    begin = int(rows[0]) if rows.size else 0
    parts = [np.arange(max(begin - len(data) // 10, 0), begin), *np.array_split(rows, len(AROUND_RETURN) - 2)]
    return [_true_area(data, logit, part) for part in parts]


def _area(label: NDArray[np.float32], logit: NDArray[np.float32], rows: Rows) -> float:
    chosen = label[rows]
    return auc(chosen, logit[rows]) if chosen.size >= LEAST else float("nan")


def mean_known(values: Sequence[float]) -> float:
    """Mean of the values that are numbers; not-a-number if none is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _true_area(data: PreparedStream, logit: NDArray[np.float32], rows: Rows) -> float:
    """Expected AUC if the stream has true probabilities, else the AUC of the clicks."""
    probability = data.probability[rows]
    if probability.size < LEAST or not np.isfinite(probability).all():
        return _area(data.truth, logit, rows)
    return expected_auc(probability, logit[rows])


def _by_domain(data: PreparedStream, logit: NDArray[np.float32], space: DomainSpace) -> dict[str, float]:
    areas = {}
    for column, facet in enumerate(FACETS):
        for index, value in enumerate(space.values[facet]):
            mask = np.asarray(data.domain[:, column] == index)
            if mask.sum() >= LEAST:
                areas[f"{facet}={value}"] = _area(data.truth, logit, mask)
                areas |= _first_of_new(data, logit, np.flatnonzero(mask), f"{facet}={value}")
    return areas


def _first_of_new(
    data: PreparedStream, logit: NDArray[np.float32], rows: NDArray[np.intp], name: str
) -> dict[str, float]:
    """Expected AUC over the first examples of a facet value that comes up late; nothing for others, nor for logs."""
    if rows[0] < _NEW_AFTER * len(data) or not np.isfinite(data.probability[rows]).all():
        return {}
    firsts = {count: rows[:count] for count in FIRST_EXAMPLES if len(rows) >= count}
    return {
        f"{name}, first {count}": expected_auc(data.probability[part], logit[part]) for count, part in firsts.items()
    }
