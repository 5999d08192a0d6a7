"""Converts labelled requests into micro-batches for the kernel and outcomes for the live features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.outcome import RequestOutcome
from model.encoding.domain import DomainSpace
from model.gate.scored_examples import ScoredExamples
from model.kernel.batch import MicroBatch
from streaming.events import ServedImpression
from streaming.events.traffic import FloatPayload
from streaming.group.corrections import Correction
from streaming.join.join import LabelledRequest


def micro_batch(requests: Sequence[LabelledRequest], space: DomainSpace) -> MicroBatch:
    """The requests' items as examples of the click task."""
    impressions = [request.impression for request in requests]
    counts = [len(impression.items) for impression in impressions]
    domain = space.encode_many([impression.domain for impression in impressions])
    time = np.array([impression.time for impression in impressions], dtype=np.float64)
    return MicroBatch(
        x=_floats(impressions, "x"),
        live=_floats(impressions, "live"),
        values=torch.from_numpy(ServedImpression.joined(impressions, "values").astype(np.int16, copy=False)),
        domain=torch.from_numpy(np.repeat(domain, counts, axis=0)),
        label=torch.from_numpy(np.concatenate([r.clicks for r in requests]).astype(np.float32)),
        frozen_logit=_floats(impressions, "frozen_logit"),
        live_logit=_floats(impressions, "live_logit"),
        weight=torch.ones(sum(counts)),
        time=torch.from_numpy(np.repeat(time, counts)),
    )


def conversion_batch(requests: Sequence[LabelledRequest], space: DomainSpace) -> MicroBatch:
    """The clicked items as examples of the conversion task, with the features and logits of that task."""
    impressions = [request.impression for request in requests]
    shown = micro_batch(requests, space)
    whole = dataclasses.replace(
        shown,
        live=_floats(impressions, "cvr_live"),
        label=torch.from_numpy(np.concatenate([r.conversions for r in requests]).astype(np.float32)),
        frozen_logit=_floats(impressions, "cvr_frozen_logit"),
        live_logit=_floats(impressions, "cvr_live_logit"),
    )
    return whole.select(shown.label > 0)


def scored_conversions(requests: Sequence[LabelledRequest], space: DomainSpace) -> ScoredExamples:
    """The examples of `conversion_batch` as the gate reads them; each of the requests has a click."""
    impressions = [request.impression for request in requests]
    clicked = [request.clicks for request in requests]
    clicks = np.concatenate(clicked)
    return ScoredExamples(
        label=np.concatenate([request.conversions[request.clicks] for request in requests]).astype(np.float64),
        frozen=_finite(ServedImpression.joined(impressions, "cvr_frozen_logit")[clicks]),
        live=_finite(ServedImpression.joined(impressions, "cvr_live_logit")[clicks]),
        request=np.repeat(np.arange(len(requests)), [int(mask.sum()) for mask in clicked]),
        user=[impression.user_id for impression in impressions],
        item=[item for item, is_clicked in zip(_items(impressions), clicks, strict=True) if is_clicked],
        domain=space.encode_many([impression.domain for impression in impressions]),
        version=np.array([impression.kernel_version for impression in impressions]),
    )


def scored_examples(requests: Sequence[LabelledRequest], space: DomainSpace) -> ScoredExamples:
    """The requests' examples as the gate reads them."""
    impressions = [request.impression for request in requests]
    counts = [len(impression.items) for impression in impressions]
    return ScoredExamples(
        label=np.concatenate([request.clicks for request in requests]).astype(np.float64),
        frozen=_finite(ServedImpression.joined(impressions, "frozen_logit")),
        live=_finite(ServedImpression.joined(impressions, "live_logit")),
        request=np.repeat(np.arange(len(requests)), counts),
        user=[impression.user_id for impression in impressions],
        item=list(_items(impressions)),
        domain=space.encode_many([impression.domain for impression in impressions]),
        version=np.array([impression.kernel_version for impression in impressions]),
    )


def _floats(impressions: Sequence[ServedImpression], name: FloatPayload) -> torch.Tensor:
    """A field of all items of all impressions, one after the other, float32; without a copy if it is logged as such."""
    return torch.from_numpy(ServedImpression.joined(impressions, name).astype(np.float32, copy=False))


def _items(impressions: Sequence[ServedImpression]) -> Iterator[str]:
    return chain.from_iterable(impression.items for impression in impressions)


def _finite(logit: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logits with bounded values in place of non-finite ones, which the learner refuses later; the gate sees them
    first."""
    doubles = logit.astype(np.float64)
    if np.isfinite(doubles).all():
        return doubles
    return np.nan_to_num(doubles, nan=0.0, posinf=50.0, neginf=-50.0)


def corrected_examples(corrections: Sequence[Correction], space: DomainSpace) -> tuple[MicroBatch, NDArray[np.int64]]:
    """Examples whose label turned, with the weights they were learned with, and when each was learned
    (`Learner.correct`)."""
    batch = micro_batch([correction.request for correction in corrections], space)
    weight = np.concatenate([correction.weight for correction in corrections])
    batch = dataclasses.replace(batch, weight=torch.from_numpy(weight).to(batch.weight.dtype))
    sizes = [len(correction.request.clicks) for correction in corrections]
    learned_at = np.repeat(np.array([correction.learned_at for correction in corrections], dtype=np.int64), sizes)
    turned = batch.label > 0
    return batch.select(turned), learned_at[turned.numpy()]


def corrected_outcomes(corrections: Sequence[Correction]) -> list[RequestOutcome]:
    """The changes of clicks and residuals by corrections, for the live features."""
    found = outcomes([correction.request for correction in corrections])
    return [dataclasses.replace(outcome, residual=outcome.click) for outcome in found]


def outcomes(requests: Sequence[LabelledRequest]) -> list[RequestOutcome]:
    """The requests' clicks and residuals against the frozen model, for the live features.

    All requests are decoded together, because numpy's cost per call is more than that of one request's few items.
    """
    if not requests:
        return []
    impressions = [request.impression for request in requests]
    click = np.concatenate([request.clicks for request in requests]).astype(np.float32)
    logit = ServedImpression.joined(impressions, "frozen_logit")
    residual = click - 1.0 / (1.0 + np.exp(-logit))
    content = ServedImpression.joined(impressions, "content").astype(np.float32)
    values = ServedImpression.joined(impressions, "values")
    ends = np.cumsum([len(impression.items) for impression in impressions]).tolist()
    return [
        RequestOutcome(
            user_id=impression.user_id,
            domain=impression.domain,
            items=impression.items,
            content=content[begin:end],
            values=values[begin:end],
            click=click[begin:end],
            residual=residual[begin:end],
            time=impression.time,
        )
        for impression, begin, end in zip(impressions, [0, *ends[:-1]], ends, strict=True)
    ]


def conversion_outcome(request: LabelledRequest) -> RequestOutcome:
    """A request's clicked items and their conversions, for the live features of conversions; clicked counts as
    shown."""
    frozen = 1.0 / (1.0 + np.exp(-request.impression.array("cvr_frozen_logit")))
    converted = request.conversions.astype(np.float32)
    return _of_items(request, request.clicks, converted, (converted - frozen).astype(np.float32))


def corrected_conversion(correction: Correction) -> RequestOutcome:
    """The change of labels and residuals by later conversions, for the live features of conversions."""
    request = correction.request
    turned = request.clicks & request.conversions
    ones = np.ones(len(turned), dtype=np.float32)
    return _of_items(request, turned, ones, ones)


def _of_items(
    request: LabelledRequest, mask: NDArray[np.bool_], label: NDArray[np.float32], residual: NDArray[np.float32]
) -> RequestOutcome:
    """The masked items of a request as an outcome with these labels and residuals, `(n,)` as all of its items."""
    impression = request.impression
    return RequestOutcome(
        user_id=impression.user_id,
        domain=impression.domain,
        items=[impression.items[index] for index in np.flatnonzero(mask)],
        content=impression.array("content")[mask],
        values=impression.array("values")[mask],
        click=label[mask],
        residual=residual[mask],
        time=impression.time,
    )
