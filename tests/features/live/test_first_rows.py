"""The rows that a group starts with: they come back bit for bit, and what cannot be used is refused with the cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.config import LiveConfig
from features.live.first_rows import FOLDER, FirstRowsRefused, read_first_rows, write_first_rows
from features.live.layout import KINDS, OVERALL, Crossing, Kind, LiveLayout, LiveRow
from features.live.merge import ParentRows, merge_rows
from features.live.tasks import as_conversions, split_by_task
from model.config import HistorySpec

LAYOUT = LiveLayout.of(LiveConfig(), 2, Crossing(3, ("genres",), (0, 0), (("period", ("unknown", "day", "night")),)))
DOMAINS = ["home/unknown/day", "home/unknown/night"]


def row(kind: Kind, key: str, value: float = 1.0, updated_at: float = 5.0) -> LiveRow:
    return LiveRow(kind, key, updated_at, np.full(LAYOUT.width_of(kind), value, dtype=np.float32))


ROWS = [row(kind, f"a {kind}/\x1f", number + 0.1) for number, kind in enumerate(KINDS)]


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.text(max_size=9), st.floats(0, 1e9, width=32)), max_size=8))
def test_rows_round_trip_bit_for_bit_with_any_key(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[Kind, str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("backbone")
    rows = [row(kind, key, value, value) for kind, key, value in made]
    write_first_rows(folder, "main", DOMAINS, rows)
    back = read_first_rows(folder, "main", DOMAINS, LAYOUT)
    assert [(r.kind, r.key, r.updated_at, r.values.tobytes()) for r in back] == [
        (r.kind, r.key, r.updated_at, r.values.tobytes()) for r in rows
    ]


def test_histories_round_trip_with_their_items(tmp_path: Path) -> None:
    layout = replace(LAYOUT, history=HistorySpec(2))
    kept = LiveRow("history", "u", 5.0, np.arange(6, dtype=np.float32), ("i9", "i1"))
    write_first_rows(tmp_path, "main", DOMAINS, [kept])
    (back,) = read_first_rows(tmp_path, "main", DOMAINS, layout)
    assert (back.kind, back.key, back.items) == ("history", "u", ("i9", "i1"))
    assert back.values.tobytes() == kept.values.tobytes()
    for shorter in (LAYOUT, replace(LAYOUT, history=HistorySpec(1))):
        with pytest.raises(FirstRowsRefused, match="history 'u'"):
            read_first_rows(tmp_path, "main", DOMAINS, shorter)


def test_the_order_of_declared_domains_does_not_matter(tmp_path: Path) -> None:
    write_first_rows(tmp_path, "main", DOMAINS, ROWS)
    assert len(read_first_rows(tmp_path, "main", DOMAINS[::-1], LAYOUT)) == len(ROWS)


def test_a_group_unknown_to_pretraining_is_refused_with_the_file_name(tmp_path: Path) -> None:
    with pytest.raises(FirstRowsRefused, match=r"live-rows/new\.msgpack is missing: .*'new'.*pretrain the"):
        read_first_rows(tmp_path, "new", DOMAINS, LAYOUT)


def test_a_group_with_other_domains_than_at_pretraining_is_refused(tmp_path: Path) -> None:
    write_first_rows(tmp_path, "main", DOMAINS, ROWS)
    with pytest.raises(FirstRowsRefused, match=r"other domains than group 'main' has now: take the change of `groups`"):
        read_first_rows(tmp_path, "main", DOMAINS[:1], LAYOUT)


def changed(data: bytes, **fields: object) -> bytes:
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(data), **fields})


def written(values: bytes, updated_at: float = 1.0, kind: str = "item") -> list[object]:
    return [[kind, "i", updated_at, values]]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda data: data[:-3],
    "garbage": lambda data: b"garbage",
    "nested": lambda data: b"\x91" * 100_000,
    "another format": lambda data: changed(data, format=99),
    "another group": lambda data: changed(data, group="other"),
    "another kind": lambda data: changed(data, rows=written(b"", kind="planet")),
    "too short": lambda data: changed(data, rows=written(b"\x00" * 4)),
    "not finite": lambda data: changed(data, rows=written(np.full(6, np.nan, "<f4").tobytes())),
    "no time": lambda data: changed(data, rows=written(np.ones(6, "<f4").tobytes(), float("inf"))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_reported_with_its_name_and_a_remedy(tmp_path: Path, damage: str) -> None:
    write_first_rows(tmp_path, "main", DOMAINS, ROWS)
    path = tmp_path / FOLDER / "main.msgpack"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(FirstRowsRefused, match=r"main\.msgpack.*pretrain the backbone again"):
        read_first_rows(tmp_path, "main", DOMAINS, LAYOUT)


def test_conversion_rows_round_trip_together_with_click_rows(tmp_path: Path) -> None:
    write_first_rows(tmp_path, "main", DOMAINS, [*ROWS, *as_conversions(ROWS)])
    for task in split_by_task(read_first_rows(tmp_path, "main", DOMAINS, LAYOUT)):
        assert [(one.kind, one.key, one.values.tobytes()) for one in task] == [
            (one.kind, one.key, one.values.tobytes()) for one in ROWS
        ]


def test_merging_groups_adds_up_each_task_separately() -> None:
    one, other = ([row("domain", OVERALL, value)] for value in (1.0, 2.0))
    parents = [
        ParentRows([*one, *as_conversions(other)], DOMAINS, True),
        ParentRows(as_conversions(one), DOMAINS, True),
    ]
    clicks, conversions = split_by_task(merge_rows(LAYOUT, parents))
    assert [float(merged.values[0]) for merged in (*clicks, *conversions)] == [1.0, 3.0]
