"""The ranking of a whole catalogue, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lab.transfer.catalogue import rank_catalogue


def marks(*rows: str) -> NDArray[np.bool_]:
    return np.array([[mark == "x" for mark in row] for row in rows])


def test_each_relevant_item_is_ranked_among_items_that_are_neither_relevant_nor_history() -> None:
    # By score: a (history), b (relevant), c, d (relevant), e. Without a and the other relevant one b stands first and
    # d second behind c: NDCG is (1 + 1 / log2(3)) / 2; at 1, d is not hit.
    score = np.array([[5.0, 4.0, 3.0, 2.0, 1.0]], dtype=np.float32)
    relevant, history = marks(".x.x."), marks("x....")
    order = rank_catalogue(score, relevant, history)
    assert order.hit == pytest.approx([1.0])
    assert order.ndcg == pytest.approx([(1 + 0.63093) / 2], abs=1e-5)
    assert rank_catalogue(score, relevant, history, at=1).hit == pytest.approx([0.5])
    assert rank_catalogue(score, relevant, history, at=1).ndcg == pytest.approx([0.5])


def test_history_items_count_neither_as_negatives_nor_as_relevant() -> None:
    score = np.array([[2.0, 1.0], [2.0, 1.0]], dtype=np.float32)
    order = rank_catalogue(score, marks("xx", "x."), marks("x.", "x."), at=1)
    assert order.hit[0] == 1.0
    assert np.isnan(order.hit[1])
    assert np.isnan(order.ndcg[1])


def test_equal_scores_share_their_ranks() -> None:
    # Four items of one score: the relevant one stands at each rank one time in four.
    score = np.zeros((1, 4), dtype=np.float32)
    order = rank_catalogue(score, marks("..x."), marks("...."), at=2)
    assert order.hit == pytest.approx([0.5])
    assert order.ndcg == pytest.approx([(1 + 0.63093) / 4], abs=1e-5)


def test_without_users_the_figures_are_undefined() -> None:
    nobody = np.zeros((0, 3))
    assert len(rank_catalogue(nobody.astype(np.float32), nobody > 0, nobody > 0).hit) == 0


@given(st.integers(0, 2**32 - 1))
def test_ranks_agree_with_sorting_the_catalogue_for_every_relevant_item(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.permutation(40).astype(np.float32)[None]
    relevant, history = rng.random((1, 40)) < 0.2, rng.random((1, 40)) < 0.2
    hits = []
    for item in np.flatnonzero(relevant[0] & ~history[0]).tolist():
        left = [other for other in range(40) if other == item or not (relevant[0, other] or history[0, other])]
        rank = sorted(left, key=lambda other: -score[0, other]).index(item)
        hits.append((rank < 10, 1 / np.log2(rank + 2) if rank < 10 else 0.0))
    order = rank_catalogue(score, relevant, history)
    expected = np.mean(hits, axis=0) if hits else [np.nan, np.nan]
    np.testing.assert_allclose([order.hit[0], order.ndcg[0]], expected)
