"""What an announcement of drift must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.events import DriftEvent, decode_event, encode_event
from streaming.events.announcements import announcement_fault

FACETS = st.dictionaries(
    st.sampled_from(["scene", "region", "period"]), st.lists(st.text("abc", min_size=1), min_size=1, max_size=3)
)
EVENTS = st.builds(
    DriftEvent,
    name=st.sampled_from(["taste", "holiday sale", "ü" * 20, "x"]),
    kind=st.sampled_from(["taste", "campaign"]),
    phase=st.sampled_from(["begins", "full", "ends"]),
    time=st.integers(0, 9).map(float),
    domain=FACETS,
    returns=st.booleans(),
    recorded=st.none() | st.floats(0, 1e9),
)


@given(EVENTS)
def test_an_announcement_round_trips(event: DriftEvent) -> None:
    assert decode_event(encode_event(event)) == event
    assert announcement_fault(event) is None


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"name": ""}, "`name`"),
        ({"name": "  "}, "`name`"),
        ({"name": "two\nlines"}, "`name`"),
        ({"name": "ü" * 33}, "`name`"),
        ({"kind": ""}, "`kind`"),
        ({"kind": "Taste!"}, "`kind`"),
        ({"kind": "k" * 33}, "`kind`"),
        ({"domain": {"scene": []}}, "`domain.scene`"),
        ({"domain": {"region": ["north", ""]}}, "`domain.region`"),
        ({"domain": {"region": ["north"] * 1_001}}, "`domain.region`"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_wrong_announcement_is_refused_with_the_reason(changes: dict[str, object], names: str) -> None:
    event = DriftEvent(**({"name": "sale", "kind": "campaign", "phase": "begins", "time": 1.0} | changes))  # type: ignore[arg-type]
    assert names in str(announcement_fault(event))
