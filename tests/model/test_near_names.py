"""The name that somebody meant."""

from __future__ import annotations

from model.near_names import did_you_mean

KNOWN = ["standard", "movielens-100k", "L0"]


def test_a_near_name_is_asked_for_whatever_its_case() -> None:
    assert did_you_mean("standart", KNOWN) == "; did you mean 'standard'?"
    assert did_you_mean(" MovieLens-100k", KNOWN) == "; did you mean 'movielens-100k'?"


def test_a_name_that_resembles_none_is_answered_with_nothing() -> None:
    assert did_you_mean("quite another", KNOWN) == did_you_mean("", KNOWN) == did_you_mean("x", []) == ""
