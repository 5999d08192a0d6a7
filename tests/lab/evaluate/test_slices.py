"""The live half in slices by what pretraining saw: each example once, and figures of its own slice alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lab.evaluate.prepare import PreparedStream
from lab.evaluate.pretrained import pretraining_examples
from lab.evaluate.slices import (
    ITEM_SLICES,
    SLICES,
    USER_SLICES,
    PretrainingCounts,
    SliceMeasures,
    measure_slices,
    slice_rows,
)
from lab.streams import ScriptedStream
from model.evaluation import auc, grouped_auc, log_loss, sigmoid


def sliced(data: PreparedStream, logit: NDArray[np.float32], seen: PretrainingCounts) -> dict[str, SliceMeasures]:
    return measure_slices(data.truth, logit, data.request, seen)


COUNTS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5)), max_size=50)


@given(COUNTS)
def test_each_example_is_in_one_slice_of_items_and_in_one_of_users(counts: list[tuple[int, int]]) -> None:
    item, user = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    masks = PretrainingCounts(item, user).masks()
    assert tuple(masks) == SLICES
    for names in (ITEM_SLICES, USER_SLICES):
        assert (np.sum([masks[name] for name in names], axis=0) == 1).all()


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (0, "item never seen"), (1, "item seen 1-10"), (10, "item seen 1-10"), (11, "item seen 11-100"),
        (100, "item seen 11-100"), (101, "item seen more"),
    ],
)  # fmt: skip
def test_an_item_is_in_the_slice_of_its_count(seen: int, name: str) -> None:
    masks = PretrainingCounts(np.array([seen]), np.array([1])).masks()
    assert [slice_ for slice_ in ITEM_SLICES if masks[slice_][0]] == [name]


def test_counts_are_over_items_shown_in_the_pretraining_half(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    examples = pretraining_examples(stream)
    seen = PretrainingCounts.of(examples, data.item, data.user)
    for row in range(0, len(data), 97):
        assert seen.item[row] == (examples.item == data.item[row]).sum()
        assert seen.user[row] == (examples.user == data.user[row]).sum()


def test_an_item_or_user_unknown_to_pretraining_has_a_count_of_zero(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    examples = pretraining_examples(stream)
    later = replace(data, item=data.item + examples.item.max() + 1, user=data.user + examples.user.max() + 1)
    seen = PretrainingCounts.of(examples, later.item, later.user)
    assert not seen.item.any()
    assert not seen.user.any()


def test_the_figures_of_a_slice_depend_on_its_examples_only(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = prepared
    seen = PretrainingCounts.of(pretraining_examples(stream), data.item, data.user)
    turned = np.where(seen.masks()["item seen 1-10"], -data.frozen_logit, data.frozen_logit)
    before, after = sliced(data, data.frozen_logit, seen), sliced(data, turned, seen)
    changed = {name for name in SLICES if repr(before[name]) != repr(after[name])}
    assert "item seen 1-10" in changed
    assert not changed & {"item never seen", "item seen 11-100", "item seen more"}
    mask = seen.masks()["item seen 11-100"]
    label, logit = data.truth[mask], data.frozen_logit[mask]
    own = before["item seen 11-100"]
    assert own.examples == mask.sum() >= 200
    assert own.auc == auc(label, logit)
    assert own.request_auc == grouped_auc(label, logit, data.request[mask])
    assert own.log_loss == log_loss(label, sigmoid(logit))


def test_a_slice_with_too_few_examples_has_no_auc_but_has_its_size(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    _, data = prepared
    seen = PretrainingCounts((np.arange(len(data)) >= 20).astype(np.int64) * 50, np.ones(len(data), np.int64))
    few = sliced(data, data.frozen_logit, seen)["item never seen"]
    assert few.examples == 20
    assert np.isnan([few.auc, few.request_auc]).all()
    assert few.log_loss > 0


def test_over_seeds_a_slice_has_its_mean_with_an_interval(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    stream, data = prepared
    seen = PretrainingCounts.of(pretraining_examples(stream), data.item, data.user)
    noise = np.random.default_rng(0).normal(size=(3, len(data))).astype(np.float32)
    seeds = [sliced(data, data.frozen_logit + one, seen) for one in noise]
    row = slice_rows(seeds)["user known"]
    assert row.examples == seen.masks()["user known"].sum()
    assert row.auc.mean == pytest.approx(np.mean([one["user known"].auc for one in seeds]))
    assert row.auc.half_width > 0
