"""What is read off a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from lab.evaluate.measures import AROUND_RETURN, measure, returns
from lab.evaluate.prepare import PreparedStream
from lab.streams import ScriptedStream
from lab.streams.stream import DriftSpan
from model.evaluation import auc, grouped_auc, log_loss, sigmoid


def test_an_oracle_is_the_best_on_every_measure(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    stream, data = prepared
    oracle = np.log(data.probability / (1 - data.probability))
    best = measure(data, oracle, stream.drift_spans, stream.catalogue.space)
    still = measure(data, data.frozen_logit, stream.drift_spans, stream.catalogue.space)
    for name in ("auc", "request_auc", "ndcg_5", "ndcg_10", "drift_auc", "returned", "before"):
        assert getattr(best, name) > getattr(still, name)
    assert best.log_loss < still.log_loss
    assert best.normalised_entropy < 1
    assert best.calibration == pytest.approx(1, abs=0.12)
    assert len(best.curve) == 20
    assert set(best.domains) >= {"scene=home", "region=north", "period=evening"}
    assert list(best.spans) == ["taste"]


def test_a_facet_value_that_appears_late_is_measured_over_its_first_examples(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    space = stream.catalogue.space
    late = data.domain.copy()
    late[:, 1] = 1
    late[len(data) // 2 :, 1] = 2
    moved = replace(data, domain=late)
    best = measure(moved, np.log(data.probability / (1 - data.probability)), stream.drift_spans, space).domains
    turned = measure(moved, -np.log(data.probability / (1 - data.probability)), stream.drift_spans, space).domains
    old, new = (f"region={value}" for value in space.values["region"][1:3])
    assert {name for name in best if ", first" in name} >= {f"{new}, first 100", f"{new}, first 500"}
    assert not any(name.startswith(f"{old}, first") for name in best)
    assert best[f"{new}, first 100"] > 0.5 > turned[f"{new}, first 100"]


def test_returns_are_the_tenth_of_the_stream_after_an_old_taste_came_back(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    (mask,) = returns(data, stream.drift_spans)
    position = stream.clock.position(data.time[mask])
    assert position.min() >= 0.7
    assert position.max() < 0.81
    stays = DriftSpan("x", "taste", 0.0, 1.0, 0.0, returns=False)
    assert returns(data, [stays]) == []


def test_the_spans_around_a_return_lie_before_it_and_within_the_tenth_after_it(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, short = prepared
    data = PreparedStream(**{name: np.repeat(column, 4, axis=0) for name, column in short.arrays().items()})
    mask = returns(data, stream.drift_spans)[0]
    still = measure(data, data.frozen_logit, stream.drift_spans, stream.catalogue.space)
    assert len(still.around_return) == len(AROUND_RETURN)
    for quarter, rows in enumerate(np.array_split(np.flatnonzero(mask), 4)):
        logit = data.frozen_logit.copy()
        logit[rows] = -logit[rows]
        turned = measure(data, logit, stream.drift_spans, stream.catalogue.space).around_return
        changed = [number for number, (a, b) in enumerate(zip(still.around_return, turned, strict=True)) if a != b]
        assert changed == [2 + quarter]


def test_around_a_return_the_true_probabilities_count_and_not_the_clicks(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    other = replace(data, truth=1 - data.truth)
    first, second = (
        measure(one, data.frozen_logit, stream.drift_spans, stream.catalogue.space) for one in (data, other)
    )
    assert first.auc != second.auc
    assert (first.before, first.returned) == (second.before, second.returned)
    unknown = replace(other, probability=np.full_like(data.probability, np.nan))
    assert measure(unknown, data.frozen_logit, stream.drift_spans, stream.catalogue.space).before != first.before


def test_a_level_that_moves_from_window_to_window_costs_auc_but_none_within_windows(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    window = np.concatenate([np.full(len(part), n) for n, part in enumerate(np.array_split(np.arange(len(data)), 20))])
    oracle = np.log(data.probability / (1 - data.probability))
    still, shaken = (
        measure(data, logit.astype(np.float32), stream.drift_spans, stream.catalogue.space)
        for logit in (oracle, oracle + 5 * (window % 2))
    )
    assert shaken.auc < still.auc - 0.02
    assert shaken.windowed_auc == pytest.approx(still.windowed_auc, abs=1e-3)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.booleans(), st.integers(-8, 8)), min_size=2, max_size=60).filter(
        lambda rows: len({clicked for clicked, _ in rows}) == 2
    )
)
def test_auc_and_log_loss_are_those_of_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    label = np.array([clicked for clicked, _ in rows], dtype=np.float32)
    logit = np.array([value / 2 for _, value in rows], dtype=np.float32)
    assert auc(label, logit) == pytest.approx(roc_auc_score(label, logit), abs=1e-12)
    assert log_loss(label, sigmoid(logit)) == pytest.approx(sklearn_log_loss(label, sigmoid(logit)), abs=1e-12)


def test_a_request_is_judged_whole_in_the_window_of_its_first_item(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    curve = measure(data, data.frozen_logit, stream.drift_spans, stream.catalogue.space).request_curve
    assert len(curve) == 20
    starts = {int(request): int(row) for row, request in reversed(list(enumerate(data.request.tolist())))}
    window = np.array([20 * starts[int(request)] // len(data) for request in data.request])
    for number in (0, 7, 19):
        part = window == number
        assert curve[number] == pytest.approx(
            grouped_auc(data.truth[part], data.frozen_logit[part], data.request[part])
        )
