"""What is shown, as the matching sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.kernel.descriptor import MAX_WIDTH, Descriptor

LOGIT = np.array([-1.0, 0.0, 1.0, 2.0], dtype=np.float32)
HOT = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=np.float64)
"""Four items of three values."""


def shown(descriptor: Descriptor, values: list[list[int]], logit: float = 0.5) -> torch.Tensor:
    return descriptor(torch.tensor(values, dtype=torch.int16), torch.full((len(values),), logit))


def test_the_descriptor_is_the_multi_hot_vector_centred_divided_and_scaled() -> None:
    descriptor = Descriptor.fit(HOT, LOGIT)
    columns = (HOT - HOT.mean(0)) / np.sqrt(HOT.std(0))
    columns /= np.sqrt((columns**2).mean())
    made = shown(descriptor, [[0, 2], [1, 2], [0, -1], [-1, 0]])
    np.testing.assert_allclose(made[:, :-1].numpy(), columns, rtol=1e-5)
    assert made[:, -1].tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    assert float((made[:, :-1] ** 2).mean()) == pytest.approx(1.0, rel=1e-5)


def test_the_frozen_logit_is_standardised_and_clipped() -> None:
    descriptor = Descriptor.fit(HOT, LOGIT)
    level = [float(shown(descriptor, [[0, 2]], logit)[0, -1]) for logit in (0.5, 0.5 + float(LOGIT.std()), 1e30, -1e30)]
    assert level == pytest.approx([0.0, 1.0, 4.0, -4.0], abs=1e-5)


def test_a_value_that_no_item_or_every_item_has_is_no_column() -> None:
    hot = np.concatenate([HOT, np.zeros((4, 1)), np.ones((4, 1))], axis=1)
    descriptor = Descriptor.fit(hot, LOGIT)
    assert descriptor.width == 3 + 1
    assert torch.equal(shown(descriptor, [[0, 3], [0, 4]]), shown(descriptor, [[0, -1], [0, -1]]))


def test_an_item_without_values_has_the_negative_centre_as_descriptor() -> None:
    descriptor = Descriptor.fit(HOT, LOGIT)
    torch.testing.assert_close(shown(descriptor, [[-1, -1]])[0, :-1], -descriptor.shift)


def test_without_fields_the_descriptor_is_the_logit() -> None:
    descriptor = Descriptor.fit(np.zeros((4, 0)), LOGIT)
    assert descriptor.width == 1
    made = descriptor(torch.zeros((5, 0), dtype=torch.int16), torch.full((5,), 0.5))
    assert made.tolist() == [pytest.approx([0.0], abs=1e-6)] * 5


@pytest.mark.parametrize("items", [0, 1])
def test_the_descriptor_of_a_catalogue_of_at_most_one_item_is_the_logit(items: int) -> None:
    descriptor = Descriptor.fit(HOT[:items], LOGIT)
    assert descriptor.width == 1
    assert bool(torch.isfinite(shown(descriptor, [[0, 1]])).all())


def test_a_constant_logit_has_a_deviation_to_divide_by() -> None:
    descriptor = Descriptor.fit(HOT, np.full(9, 2.0, dtype=np.float32))
    assert float(shown(descriptor, [[0, 2]], 2.0)[0, -1]) == 0.0
    assert float(shown(descriptor, [[0, 2]], 3.0)[0, -1]) == 4.0


def many(values: int, items: int = 300, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((items, values)) < 0.1).astype(np.float64)


def test_columns_within_the_maximal_width_are_kept_unchanged() -> None:
    assert Descriptor.fit(many(MAX_WIDTH), LOGIT).width == MAX_WIDTH + 1


@pytest.mark.parametrize("values", [MAX_WIDTH + 1, 200])
def test_more_columns_are_projected_with_random_signs_that_preserve_similarity(values: int) -> None:
    hot = many(values)
    descriptor = Descriptor.fit(hot, LOGIT)
    assert descriptor.width == MAX_WIDTH + 1
    described = hot @ descriptor.table[:-1].double().numpy() - descriptor.shift.double().numpy()
    assert (described**2).mean() == pytest.approx(1.0, rel=1e-4)
    columns = (hot - hot.mean(0)) / np.sqrt(hot.std(0))
    likeness, kept = np.corrcoef(columns)[np.triu_indices(300, 1)], np.corrcoef(described)[np.triu_indices(300, 1)]
    assert np.corrcoef(likeness, kept)[0, 1] > 0.3
    assert torch.equal(descriptor.table, Descriptor.fit(hot, LOGIT).table)


@given(st.lists(st.integers(-1, 2), min_size=3, max_size=3), st.floats(-(2.0**100), 2.0**100, width=32))
def test_the_descriptor_of_any_item_is_bounded(values: list[int], logit: float) -> None:
    made = shown(Descriptor.fit(HOT, LOGIT), [values], logit)
    assert bool((made.abs() <= 5).all())
