"""Which item fields are crossed, and how their values are numbered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import FieldSpec
from model.encoding.features import EncodedItem, FeatureEncoder
from model.encoding.item_values import MAX_PER_FIELD, MAX_VALUES, NONE, ItemValues
from model.encoding.profile import ItemFeatures

SPECS = (
    FieldSpec(name="author"),
    FieldSpec(name="genres", kind="multi", max_values=8),
    FieldSpec(name="only"),
    FieldSpec(name="year", kind="number", buckets=4),
)


def item(name: str, **fields: Any) -> ItemFeatures:
    return ItemFeatures(name, fields, np.zeros(2, dtype=np.float32))


def fit(items: list[ItemFeatures], specs: tuple[FieldSpec, ...] = SPECS) -> FeatureEncoder:
    return FeatureEncoder.fit([], items, user_fields=(), item_fields=specs, text_width=2)


CATALOGUE = [
    item(f"i{n}", author=f"a{n}", genres=["drama", "war"] if n % 2 else ["love"], only="x", year=float(n))
    for n in range(MAX_VALUES + 5)
]
ENCODER = fit(CATALOGUE)
VALUES = ItemValues(ENCODER)


def slots(**fields: Any) -> list[int]:
    made: list[int] = VALUES.of_items([ENCODER.encode_item(item("new", **fields))])[0].tolist()
    return made


def test_only_fields_of_two_up_to_the_limit_of_values_are_crossed() -> None:
    assert VALUES.fields == ("genres", "year")
    assert VALUES.width == (1 + 3) + (1 + 4)
    assert VALUES.field_of_slot.tolist() == [0] * MAX_PER_FIELD + [1]
    assert VALUES.slots == MAX_PER_FIELD + 1


@pytest.mark.parametrize(
    ("count", "crossed"), [(1, False), (2, True), (MAX_VALUES, True), (MAX_VALUES + 1, False), (10_000, False)]
)
def test_whether_a_field_is_crossed_depends_on_its_number_of_values(count: int, crossed: bool) -> None:
    made = ItemValues(fit([item(f"i{n}", author=f"a{n}") for n in range(count)], SPECS[:1]))
    assert (made.fields == ("author",)) == crossed
    assert made.width == (count + 1 if crossed else 0)


def test_values_are_numbered_by_field_with_the_unknown_value_first() -> None:
    # drama 1, love 2, war 3; the year's own begin at 4.
    assert slots(genres=["war", "drama"], year=-5.0) == [3, 1, NONE, NONE, NONE, 5]
    assert slots(genres=["opera"], year="soon") == [0, NONE, NONE, NONE, NONE, 4]
    assert slots(year=1e9)[-1] == 8


def test_a_duplicate_value_of_an_item_counts_once() -> None:
    assert slots(genres=["war", "war", "love", "war"])[:5] == [3, NONE, 2, NONE, NONE]
    assert slots(genres=["opera", "mime"])[:5] == [0, NONE, NONE, NONE, NONE]


def test_ten_thousand_values_of_one_item_are_cut_to_the_first() -> None:
    assert slots(genres=["love", *[f"g{n}" for n in range(10_000)]])[:5] == [2, 0, NONE, NONE, NONE]


def test_without_fields_there_are_no_slots() -> None:
    made = ItemValues(fit(CATALOGUE, ()))
    assert (made.fields, made.width, made.slots) == ((), 0, 0)
    assert made.of_items([ENCODER.encode_item(CATALOGUE[0])]).shape == (1, 0)


def test_no_items_give_no_rows() -> None:
    assert VALUES.of_items([]).shape == (0, VALUES.slots)


@given(st.dictionaries(st.sampled_from(["author", "genres", "only", "year"]),
                       st.text(max_size=5) | st.floats() | st.lists(st.text(max_size=5), max_size=12)))  # fmt: skip
def test_slots_of_any_item_are_values_without_repetition(fields: dict[str, Any]) -> None:
    encoded: EncodedItem = ENCODER.encode_item(item("any", **fields))
    made = VALUES.of_items([encoded])[0]
    kept = made[made != NONE].tolist()
    assert len(kept) == len(set(kept))
    assert all(0 <= value < VALUES.width for value in kept)
    assert made.dtype == np.int16
