"""What each name has brought, decayed, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.gate.decayed_mass import KEPT, DecayedMass, key_of

NAMES = [f"item {number}" for number in range(4 * KEPT)]
plays = st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.0, 9.0)), max_size=6), max_size=8)


def of(mass: DecayedMass, names: Sequence[str]) -> NDArray[np.float64]:
    return mass.at(mass.slots(names))


def add(mass: DecayedMass, names: Sequence[str], brought: Sequence[float]) -> None:
    mass.add(mass.slots(names), np.array(brought, dtype=np.float64))


def test_the_heaviest_names_are_kept() -> None:
    mass = DecayedMass(1e6)
    add(mass, NAMES, range(4 * KEPT))
    assert of(mass, NAMES[3 * KEPT :]).tolist() == list(range(3 * KEPT, 4 * KEPT))
    assert not of(mass, NAMES[: 3 * KEPT]).any()


def test_of_equally_heavy_names_those_stored_last_are_kept_in_their_order() -> None:
    mass = DecayedMass(1e6)
    add(mass, NAMES, np.ones(len(NAMES)).tolist())
    assert [key for key, _ in mass.state()["stored"]] == [key_of(name) for name in NAMES[-KEPT:]]


def test_names_that_bring_nothing_take_no_memory_for_good() -> None:
    mass = DecayedMass(1e6)
    for begin in range(0, 40 * KEPT, KEPT):
        add(mass, [f"other {number}" for number in range(begin, begin + KEPT)], [0.0] * KEPT)
    assert len(mass.state()["stored"]) <= 2 * KEPT


def test_a_mass_halves_every_half_life_even_when_the_unit_is_set_back() -> None:
    mass = DecayedMass(100.0)
    add(mass, ["seven"], [8.0])
    mass.pass_by(300)
    assert of(mass, ["seven", "eight"]) == pytest.approx([1.0, 0.0])
    assert mass.whole == pytest.approx(1.0)
    for _ in range(10):  # 2^100: beyond the largest unit
        mass.pass_by(1_000)
        add(mass, ["nine"], [3.0])
    assert of(mass, ["nine"]) == pytest.approx([3.0 / (1 - 2.0**-10)], rel=1e-6)
    assert mass.whole == pytest.approx(3.0 / (1 - 2.0**-10), rel=1e-6)


def test_a_name_that_repeats_gets_all_its_mass() -> None:
    mass = DecayedMass(100.0)
    add(mass, ["one", "two", "one"], [1.0, 2.0, 4.0])
    assert of(mass, ["one", "two"]).tolist() == [5.0, 2.0]


@given(plays, plays)
def test_a_restored_mass_continues_identically(
    before: list[list[tuple[str, float]]], after: list[list[tuple[str, float]]]
) -> None:
    one, other = DecayedMass(3.0), DecayedMass(3.0)
    for batch in before:
        _play(one, batch)
    other.load(one.state())
    for batch in after:
        _play(one, batch)
        _play(other, batch)
    assert one.state() == other.state()
    assert of(one, "abcd").tolist() == of(other, "abcd").tolist()


def test_a_restored_mass_drops_the_same_names() -> None:
    one, other = DecayedMass(1e6), DecayedMass(1e6)
    add(one, NAMES[:KEPT], np.arange(KEPT, 0, -1).tolist())
    other.load(one.state())
    for mass in (one, other):
        add(mass, NAMES[KEPT // 2 :], np.arange(len(NAMES) - KEPT // 2).tolist())
    assert one.state() == other.state()
    assert of(one, NAMES).tolist() == of(other, NAMES).tolist()


def _play(mass: DecayedMass, batch: list[tuple[str, float]]) -> None:
    mass.pass_by(len(batch))
    add(mass, [name for name, _ in batch], [brought for _, brought in batch])
