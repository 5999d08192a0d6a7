"""The conversion task in the form of the click task: examples are clicked items, labelled by whether they converted.

In this form the counters, kernel and learner of clicks can be used without changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.live.features import LiveFeatures, RequestItems
from features.live.outcome import RequestOutcome
from lab.conversion_start import clicked_log
from lab.evaluate.config import EvaluationConfig
from lab.evaluate.known_labels import Labels, live_outcomes
from lab.evaluate.label_times import decided_labels, first_batch_after
from lab.evaluate.pretrained import Pretrained
from lab.kernel_start import count_log
from lab.represented import represent_pairs
from lab.streams import Chunk, Stream


@dataclass(frozen=True)
class KnownConversions:
    """When what is known of the `n` examples of a live half: numbers of the scoring batches after which it is."""

    click_labels: Labels
    request: NDArray[np.int64]
    """Number of each example's request, `(n,)`."""
    clicked: NDArray[np.bool_]
    """Clicked, in time or late, as the processor learns of it."""
    clicked_at: NDArray[np.int64]
    converted: NDArray[np.bool_]
    """Clicked, and converted within the window of conversions."""
    converted_at: NDArray[np.int64]
    closed_at: NDArray[np.int64]
    """When the conversion window of a click has closed."""

    @staticmethod
    def of(chunk: Chunk, config: EvaluationConfig) -> KnownConversions:
        """The conversions of a live half; their window is the horizon of late clicks."""
        assert chunk.conversions is not None
        click_labels, window = decided_labels(chunk, config), config.horizon_s
        row, column = np.nonzero(chunk.shown)
        clicked = click_labels.label | (click_labels.corrected >= 0)
        clicked_at = np.where(click_labels.corrected >= 0, click_labels.corrected, click_labels.decided[row])
        delay = chunk.delay[row, column] + chunk.conversions.delay[row, column]
        converted = clicked & chunk.conversions.happened[row, column] & (delay <= window)

        def after(delay: NDArray[np.float32] | float) -> NDArray[np.int64]:
            known_after = first_batch_after(chunk, click_labels.batch, chunk.time[row] + delay)
            return np.maximum(known_after, clicked_at)

        return KnownConversions(click_labels, row, clicked, clicked_at, converted, after(delay), after(window))

    def closing(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The clicked examples as their windows close, and after which batches."""
        clicked = np.flatnonzero(self.clicked)
        order = np.argsort(self.closed_at[clicked], kind="stable")
        return clicked[order], self.closed_at[clicked[order]]


def conversion_features(
    stream: Stream,
    pretrained: Pretrained,
    conversions: KnownConversions,
    cvr_logit: NDArray[np.float32],
    config: EvaluationConfig,
) -> NDArray[np.float32]:
    """Live features of conversions for every shown example, `(n, k)`, from what was known before its batch.

    A click counts as shown as soon as it is known, and its conversion corrects it later: counters, residuals and
    content sums are those of clicks, computed on clicked items alone.
    """
    layout, pace = pretrained.layout, config.requests_per_second
    live, log = LiveFeatures(layout, config.live), clicked_log(pretrained.log)
    count_log(live, log, (np.arange(len(log.examples), dtype=np.float64) - 1e9) / pace)
    outcomes = _outcomes(stream, pretrained, conversions, cvr_logit, pace)
    events = _events(outcomes, conversions)
    features = np.empty((len(conversions.clicked), layout.width), dtype=np.float32)
    taken, begin = 0, conversions.click_labels.begin
    for request, outcome in enumerate(outcomes):
        clicks: list[RequestOutcome] = []
        late: list[RequestOutcome] = []
        while taken < len(events) and events[taken][0] < conversions.click_labels.batch[request]:
            (late if events[taken][2] else clicks).append(events[taken][3])
            taken += 1
        live.update(clicks)
        live.correct(late)
        items = RequestItems(outcome.domain, outcome.content, outcome.values)
        features[begin[request] : begin[request + 1]] = live.features(
            outcome.time, outcome.user_id, items, outcome.items
        )
    return features


def _outcomes(
    stream: Stream, pretrained: Pretrained, conversions: KnownConversions, cvr_logit: NDArray[np.float32], pace: float
) -> list[RequestOutcome]:
    """The requests, no item converted: residuals are those of the frozen CVR before any conversion is known."""
    chunk = conversions.click_labels.chunk
    item = chunk.items[np.nonzero(chunk.shown)]
    domain = chunk.domain[conversions.request]
    pairs = represent_pairs(
        pretrained.backbone, pretrained.profiles, chunk.user[conversions.request], item, domain,
        query=chunk.query_of(conversions.request),
    )  # fmt: skip
    residual = (-1.0 / (1.0 + np.exp(-cvr_logit))).astype(np.float32)
    return live_outcomes(
        stream, pretrained, conversions.click_labels, pairs.content, residual, np.arange(len(chunk)) / pace
    )


def _events(
    outcomes: list[RequestOutcome], conversions: KnownConversions
) -> list[tuple[int, int, bool, RequestOutcome]]:
    """Clicks and conversions in the order in which they are known: batch, example, whether it puts a click right."""
    events = []
    for example in np.flatnonzero(conversions.clicked).tolist():
        at_once = (
            bool(conversions.converted[example])
            and conversions.converted_at[example] <= conversions.clicked_at[example]
        )
        request = int(conversions.request[example])
        outcome, place = outcomes[request], example - int(conversions.click_labels.begin[request])
        residual = float(outcome.residual[place])
        clicked = _of_item(outcome, place, float(at_once), residual + float(at_once))
        events.append((int(conversions.clicked_at[example]), example, False, clicked))
        if conversions.converted[example] and not at_once:
            events.append((int(conversions.converted_at[example]), example, True, _of_item(outcome, place, 1.0, 1.0)))
    return sorted(events, key=lambda event: event[:3])


def _of_item(outcome: RequestOutcome, place: int, converted: float, residual: float) -> RequestOutcome:
    only = slice(place, place + 1)
    return replace(
        outcome, items=outcome.items[only], content=outcome.content[only], values=outcome.values[only],
        click=np.array([converted], dtype=np.float32), residual=np.array([residual], dtype=np.float32),
    )  # fmt: skip
