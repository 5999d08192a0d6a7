"""One value has one spelling, whatever type carried it here."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.encoding.spelling import read_number, spell, spell_list

BIG = 2**53 + 1


@pytest.mark.parametrize(
    "value",
    ["7", 7, 7.0, np.int64(7), np.uint8(7), np.float64(7), np.float32(7), np.float16(7), Decimal("7.00"), b"7"],
    ids=lambda value: type(value).__name__,
)
def test_a_whole_number_has_one_spelling_in_every_type(value: object) -> None:
    assert spell(value) == "7"


@pytest.mark.parametrize("value", ["007", "7.0", " 7", "1e3", "True", "nan", "NA", "null"])
def test_text_is_unchanged(value: str) -> None:
    assert spell(value) == value


@pytest.mark.parametrize(
    "value",
    [None, "", b"", float("nan"), np.float32("nan"), float("inf"), float("-inf"), Decimal("NaN"), pd.NA, pd.NaT,
     np.datetime64("NaT")],
    ids=repr,
)  # fmt: skip
def test_a_missing_value_has_no_spelling(value: object) -> None:
    assert spell(value) is None
    assert spell_list(value) == []


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (True, "true"), (np.bool_(False), "false"), (BIG, "9007199254740993"), (np.uint64(2**64 - 1), str(2**64 - 1)),
        (-0.0, "0"), (0.5, "0.5"), (np.float32(0.1), "0.1"), (1e20, "100000000000000000000"), (Decimal("0.50"), "0.5"),
        (Decimal(BIG), str(BIG)), (date(2026, 3, 1), "2026-03-01"), (pd.Timestamp("2026-03-01"), "2026-03-01T00:00:00"),
        (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00+00:00"), (np.str_("a"), "a"), ("a\ud800", "a?"),
    ],
    ids=repr,
)  # fmt: skip
def test_every_type_has_its_one_spelling(value: object, spelled: str) -> None:
    assert spell(value) == spelled


@given(st.integers())
def test_no_digit_of_an_integer_is_lost(value: int) -> None:
    assert spell(value) == str(value)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none()))
def test_spelling_is_idempotent(value: object) -> None:
    text = spell(value)
    assert spell(text) == text


def test_a_list_is_spelled_part_by_part() -> None:
    assert spell_list([1, 2.0, "3", None, float("nan"), True]) == ["1", "2", "3", "true"]
    assert spell_list(np.array([1.0, np.nan])) == ["1"]
    assert spell_list("1") == ["1"]


@pytest.mark.parametrize(
    ("value", "number"),
    [("3.5", 3.5), (" 3 ", 3.0), (3, 3.0), (True, 1.0), (np.float32(2), 2.0), (Decimal("1.5"), 1.5), ("1_000", None),
     ("old", None), ("", None), ("inf", None), (float("nan"), None), (10**400, None), ([1], None), (None, None),
     (pd.NA, None), (b"3", None)],
    ids=repr,
)  # fmt: skip
def test_a_number_is_read_as_finite_or_as_missing(value: object, number: float | None) -> None:
    assert read_number(value) == number
