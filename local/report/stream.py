"""Served items with scores and labels, from the log: one row per shown item, in the order of the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.events import ConvertingImpression, ServedFeedback, ServedImpression, Traffic

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredConversions:
    """Conversions of the shown items, `(n,)` each, in the order of the stream."""

    label: Floats
    """1 if the log has a click and a conversion of the item, however late, else 0."""
    frozen: Floats
    """Probability of a conversion given a click, by the frozen arm."""
    live: Floats
    """Probability of a conversion given a click, by the live arm."""


@dataclass(frozen=True)
class ScoredStream:
    """Shown items with the scores they had when they were served, before anything learned from them.

    All arrays have one entry per shown item, `(n,)`, in the order of the impressions in the log.
    """

    time: Floats
    """Event time of the impression, seconds since the epoch."""
    label: Floats
    """1 if the log has a click on the item, however late, else 0."""
    frozen: Floats
    """Click probability of the frozen arm."""
    live: Floats
    """Click probability of the live arm."""
    version: NDArray[np.int64]
    """Version of the kernel that gave `live`; 0 is the identity."""
    request: NDArray[np.int64]
    """Number of the impression in the log: the items of one request share it."""
    request_ids: frozenset[str]
    """Impressions in the log."""
    fingerprints: frozenset[str]
    """Backbones that made the representations: one, if all is well."""
    orphan_feedback: int
    """Clicks that name no shown item."""
    conversions: ScoredConversions | None = None
    """None for a backbone without conversions."""

    def __len__(self) -> int:
        return int(self.label.shape[0])


def scored_stream(log: Iterable[Traffic]) -> ScoredStream:
    """Joins the impressions and clicks of a log. A request that occurs twice counts once.

    Conversions are included if every impression has them. Raises ValueError if a payload has a wrong size.
    """
    shown: dict[str, ServedImpression] = {}
    clicked: set[tuple[str, str]] = set()
    converted: set[tuple[str, str]] = set()
    for record in log:
        if isinstance(record, ServedImpression):
            shown.setdefault(record.request_id, record)
        elif isinstance(record, ServedFeedback):
            (clicked if record.kind == "click" else converted).add((record.request_id, record.item_id))
    impressions = list(shown.values())
    pairs = [(served.request_id, item) for served in impressions for item in served.items]
    sizes = [len(served.items) for served in impressions]
    return ScoredStream(
        time=np.repeat(np.array([served.time for served in impressions], dtype=np.float64), sizes),
        label=np.array([pair in clicked for pair in pairs], dtype=np.float64),
        frozen=_probabilities([served.array("frozen_logit") for served in impressions]),
        live=_probabilities([served.array("live_logit") for served in impressions]),
        version=np.repeat(np.array([served.kernel_version for served in impressions], dtype=np.int64), sizes),
        request=np.repeat(np.arange(len(impressions)), sizes),
        request_ids=frozenset(shown),
        fingerprints=frozenset(served.fingerprint for served in impressions),
        orphan_feedback=len(clicked.difference(pairs)),
        conversions=_conversions(impressions, clicked & converted),
    )


def _conversions(impressions: Sequence[ServedImpression], converted: set[tuple[str, str]]) -> ScoredConversions | None:
    """`converted` are the request and item of each click that converted."""
    scored = [served for served in impressions if isinstance(served, ConvertingImpression)]
    if not scored or len(scored) < len(impressions):
        return None
    pairs = [(served.request_id, item) for served in scored for item in served.items]
    return ScoredConversions(
        label=np.array([pair in converted for pair in pairs], dtype=np.float64),
        frozen=_probabilities([served.array("cvr_frozen_logit") for served in scored]),
        live=_probabilities([served.array("cvr_live_logit") for served in scored]),
    )


def _probabilities(logits: list[NDArray[np.float32]]) -> Floats:
    flat = np.concatenate(logits).astype(np.float64) if logits else np.zeros(0)
    return 1.0 / (1.0 + np.exp(-np.clip(flat, -60.0, 60.0)))
