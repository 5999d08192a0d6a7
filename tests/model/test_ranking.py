"""The order of a request's items: our measures against scikit-learn's, list by list."""

from __future__ import annotations

import math
from functools import partial
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score, roc_auc_score

from model.evaluation import grouped_auc, grouped_ndcg, mixed_groups
from model.ranking import ListWindow

Lists = list[tuple[int, bool, int]]
LISTS: st.SearchStrategy[Lists] = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 4)), min_size=0, max_size=40
)
"""Request, label and score of each shown item."""


def mixed(rows: Lists) -> list[tuple[list[float], list[float]]]:
    """Labels and scores of the requests that hold both labels."""
    lists = [
        ([float(y) for g, y, _ in rows if g == group], [float(s) for g, _, s in rows if g == group])
        for group in {g for g, _, _ in rows}
    ]
    return [(labels, scores) for labels, scores in lists if len(set(labels)) == 2]


def columns(rows: Lists) -> tuple[list[float], list[float], NDArray[np.int64]]:
    return [float(y) for _, y, _ in rows], [float(s) for _, _, s in rows], np.array([g for g, _, _ in rows], dtype=int)


@given(LISTS, st.sampled_from([1, 2, 5, 10]))
def test_ndcg_within_requests_is_the_mean_of_scikit_learns(rows: Lists, at: int) -> None:
    labels, scores, groups = columns(rows)
    ours, lists = grouped_ndcg(labels, scores, groups, at), mixed(rows)
    assert mixed_groups(labels, groups) == len(lists)
    theirs = [ndcg_score([y], [s], k=at) for y, s in lists]
    assert (math.isnan(ours) and not lists) or ours == pytest.approx(np.mean(theirs))


@given(LISTS)
def test_auc_within_requests_is_the_mean_of_each_requests_weighted_by_its_items(rows: Lists) -> None:
    labels, scores, groups = columns(rows)
    ours, lists = grouped_auc(labels, scores, groups), mixed(rows)
    theirs = [roc_auc_score(y, s) for y, s in lists]
    assert (math.isnan(ours) and not lists) or ours == pytest.approx(
        np.average(theirs, weights=[len(y) for y, _ in lists])
    )


@given(LISTS, st.randoms(use_true_random=False))
def test_a_ranking_does_not_depend_on_the_order_in_which_items_came(rows: Lists, random: Random) -> None:
    shuffled = random.sample(rows, len(rows))
    for measure in (grouped_auc, partial(grouped_ndcg, at=5)):
        assert measure(*columns(rows)) == pytest.approx(measure(*columns(shuffled)), nan_ok=True)


def test_an_offset_of_a_whole_request_changes_nothing_within_requests() -> None:
    labels, scores, groups = [0, 1, 0, 1], np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])
    assert grouped_ndcg(labels, scores + 5 * groups, groups, 5) == grouped_ndcg(labels, scores, groups, 5) == 1.0


@given(st.lists(LISTS, max_size=6), st.integers(1, 12))
def test_a_window_of_lists_holds_the_most_recent_that_can_be_judged(parts: list[Lists], size: int) -> None:
    window, rows = ListWindow(size), []
    for number, part in enumerate(parts):
        labels, scores, groups = columns(part)
        window.add(labels, {"frozen": scores, "live": [-score for score in scores]}, groups)
        rows += [(10 * number + group, label, score) for group, label, score in part]
    judged = sorted({g for g, _, _ in rows if len({y for h, y, _ in rows if h == g}) == 2})[-size:]
    labels, scores, groups = columns([row for row in rows if row[0] in judged])
    assert len(window) == len(judged)
    summary = window.summary()
    assert set(summary) == ({"frozen", "live"} if judged else set())
    for arm, sign in (("frozen", 1), ("live", -1)) if judged else ():
        turned = sign * np.array(scores)
        assert summary[arm]["request_auc"] == pytest.approx(grouped_auc(labels, turned, groups))
        assert summary[arm]["ndcg_5"] == pytest.approx(grouped_ndcg(labels, turned, groups, 5))


def test_a_window_of_lists_refuses_a_change_of_arms() -> None:
    window = ListWindow(3)
    window.add([0, 1], {"frozen": [0.1, 0.2]}, [0, 0])
    with pytest.raises(ValueError, match="arms changed"):
        window.add([0, 1], {"live": [0.1, 0.2]}, [0, 0])
    with pytest.raises(ValueError, match="at least one list"):
        ListWindow(0)
