"""What an outside event must be, and where it goes."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import DomainConfig
from model.encoding.domain import Domain
from streaming.config import Config, GroupConfig, IngestConfig
from streaming.events import (
    REASONS,
    DriftEvent,
    FeedbackEvent,
    ImpressionEvent,
    ItemEvent,
    RefusedError,
    UserEvent,
    encode_event,
)
from streaming.events.rules import EventRules
from streaming.ingest.routing import Routing

NOW = 1_000_000.0
CONFIG = Config(
    domains=DomainConfig(scene=("home", "shop")),
    groups=(GroupConfig(name="home", scene=("home",)), GroupConfig(name="shop", scene=("shop",))),
    ingest=IngestConfig(future_s=60.0, max_items=3),
)
ROUTING = Routing(CONFIG)

GOOD = [
    ItemEvent("i1", NOW, "a title", {"genres": ["Comedy"], "undeclared": 1.0}),
    UserEvent("u1", NOW, {"age": 30.0}),
    ImpressionEvent("home.r1", NOW, "u1", ["i1", "i2"]),
    DriftEvent("holiday sale", "campaign", "begins", NOW, {"scene": ["shop"]}, returns=True),
    FeedbackEvent("home.r1", "i1", NOW),
    FeedbackEvent("home.r1", "i1", NOW - 60.0, "conversion", Domain("home")),
]


@pytest.mark.parametrize("event", GOOD, ids=lambda event: type(event).__name__)
def test_a_valid_event_is_returned_unchanged(event: ItemEvent) -> None:
    assert ROUTING.read(encode_event(event), NOW) == event


@pytest.mark.parametrize("event", GOOD, ids=lambda event: type(event).__name__)
def test_an_event_later_than_its_append_time_gets_the_append_time_and_is_counted(event: ItemEvent) -> None:
    corrected: list[object] = []
    routing = Routing(CONFIG, on_corrected=corrected.append)
    early = msgspec.structs.replace(event, time=NOW + 59.0)
    assert routing.read(encode_event(early), NOW) == msgspec.structs.replace(event, time=NOW)
    assert corrected == [early]
    assert routing.read(encode_event(event), NOW + 1.0) == event and len(corrected) == 1


def feedback(**changes: object) -> bytes:
    return json.dumps({"event": "feedback", "request_id": "home.r", "item_id": "i", "time": NOW} | changes).encode()


def drift(**changes: object) -> bytes:
    values = {"event": "drift", "name": "sale", "kind": "campaign", "phase": "begins", "time": NOW}
    return json.dumps(values | changes).encode()


def impression(**changes: object) -> bytes:
    values = {"event": "impression", "request_id": "home.r", "user_id": "u", "items": ["i"], "time": NOW}
    return json.dumps(values | changes).encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b'{"event": "feedback", "request_id": "\xff"}', "not_json"),
        (b"[" * 100_000, "bad_shape"),
        (b'{"event":"item","fields":' + b"[" * 100_000, "bad_shape"),
        (b"null", "bad_shape"),
        (b'{"time": 1}', "unknown_event"),
        (b'{"event": "purchase"}', "unknown_event"),
        (b'{"event": 5}', "unknown_event"),
        (feedback(extra=1), "bad_shape"),
        (feedback(time="now"), "bad_shape"),
        (feedback(kind="like"), "bad_shape"),
        (feedback().replace(b"1000000.0", b"1e999"), "bad_shape"),
        (feedback().replace(b"1000000.0", b"NaN"), "not_json"),
        (feedback(time=-1.0), "bad_time"),
        (feedback(time=NOW + 60.1), "future"),
        (feedback(item_id=""), "bad_id"),
        (feedback(request_id="  "), "bad_id"),
        (feedback(item_id="i" * 513), "bad_id"),
        (impression(items=[]), "no_items"),
        (impression(items=["a", "b", "c", "d"]), "too_many_items"),
        (impression(query="  "), "bad_query"),
        (impression(query="x" * 513), "bad_query"),
        (impression(items=["a", "b", "a"]), "repeated_item"),
        (impression(items=["a", ""]), "bad_id"),
        (impression(user_id=""), "bad_id"),
        (impression(propensity=0.5), "bad_shape"),
        (encode_event(ItemEvent("", NOW)), "bad_id"),
        (drift(phase="middle"), "bad_shape"),
        (drift(domain={"planet": ["earth"]}), "bad_shape"),
        (drift(domain={"scene": "shop"}), "bad_shape"),
        (drift(time=NOW + 61), "future"),
        (drift(name=""), "bad_announcement"),
        (drift(name="x" * 65), "bad_announcement"),
        (drift(kind="no word"), "bad_announcement"),
        (drift(domain={"scene": []}), "bad_announcement"),
        (encode_event(UserEvent("", NOW)), "bad_id"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_wrong_record_is_refused_with_a_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        ROUTING.read(value, NOW)
    assert refused.value.reason == reason
    assert refused.value.detail


@pytest.mark.parametrize("number", ["1e400", "-1e400", "Infinity", "-Infinity", "NaN", "1" * 5_000])
@pytest.mark.parametrize(
    "record",
    [
        '{"event": "user", "user_id": "u", "time": 1, "fields": {"age": %s}}',
        '{"event": "user", "user_id": "u", "time": %s, "fields": {"age": 3}}',
        '{"event": "item", "item_id": "i", "time": 1, "fields": {"genres": ["Drama", %s]}}',
        '{"event": "item", "item_id": "i", "time": 1, "fields": {"genres": [%s]}}',
        '{"event": "drift", "name": "a", "kind": "b", "phase": "begins", "time": 1, "recorded": %s}',
        '{"event": "impression", "request_id": "home.r", "user_id": "u", "items": ["i"], "time": %s}',
        '{"event": "feedback", "request_id": "home.r", "item_id": "i", "time": %s}',
    ],
    ids=lambda record: record[:40],
)
def test_a_number_that_no_float_holds_is_refused_in_any_field(record: str, number: str) -> None:
    with pytest.raises(RefusedError) as refused:
        ROUTING.read((record % number).encode(), NOW)
    assert refused.value.reason in ("bad_shape", "not_json", "future", "bad_time")


def test_a_byte_order_mark_is_ignored_as_over_http() -> None:
    assert ROUTING.read(b"\xef\xbb\xbf" + feedback(), NOW) == ROUTING.read(feedback(), NOW)


def test_a_long_domain_without_a_group_is_refused_with_a_short_message() -> None:
    with pytest.raises(RefusedError) as refused:
        EventRules(CONFIG).group(FeedbackEvent("r", "i", NOW, "click", Domain("cinema" * 100_000)))
    assert refused.value.reason == "no_group"
    assert "cinema" in refused.value.detail
    assert len(refused.value.detail) < 200


def test_a_time_in_milliseconds_is_refused_with_a_hint() -> None:
    with pytest.raises(RefusedError, match="milliseconds"):
        ROUTING.read(feedback(time=1.7e12), 1.7e9)


@pytest.mark.parametrize(
    "kind", [FeedbackEvent("?", "i", NOW), ImpressionEvent("?", NOW, "u", ["i"])], ids=["feedback", "impression"]
)
@pytest.mark.parametrize(
    ("request_id", "domain", "partition"),
    [
        ("home.1", Domain("home"), 0),
        ("shop.1", Domain("home"), 1),
        ("elsewhere.1", Domain("shop"), 1),
        ("no-dot", Domain("home"), 0),
    ],
)
def test_the_group_is_that_of_the_request_id_or_else_of_the_domain(
    kind: FeedbackEvent | ImpressionEvent, request_id: str, domain: Domain, partition: int
) -> None:
    event = msgspec.structs.replace(kind, request_id=request_id, domain=domain)
    assert ROUTING.partition(event) == partition


@pytest.mark.parametrize("domain", [None, Domain("elsewhere")])
def test_an_event_without_a_group_is_refused(domain: Domain | None) -> None:
    with pytest.raises(RefusedError, match="no_group"):
        ROUTING.partition(FeedbackEvent("foreign.1", "i", NOW, "click", domain))


@pytest.mark.parametrize("kind", [FeedbackEvent("?", "i", NOW), ImpressionEvent("?", NOW, "u", ["i"])])
def test_an_undeclared_facet_counts_as_unknown_as_it_does_in_a_scorer(kind: FeedbackEvent | ImpressionEvent) -> None:
    corrected: list[None] = []
    routing = Routing(
        CONFIG.model_copy(update={"groups": (*CONFIG.groups, GroupConfig(name="rest", scene=("unknown",)))}),
        lambda: corrected.append(None),
    )
    sent = msgspec.structs.replace(kind, domain=Domain("watch", "mars", "evening"))
    event = routing.read(encode_event(sent), NOW)
    assert isinstance(event, FeedbackEvent | ImpressionEvent)
    assert event.domain == Domain("unknown", "unknown", "evening")
    assert routing.partition(event) == 2
    assert len(corrected) == isinstance(kind, ImpressionEvent), "counted once, by its impression"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused_with_a_known_reason(value: bytes) -> None:
    try:
        ROUTING.read(value, NOW)
    except RefusedError as refused:
        assert refused.reason in REASONS


TEXT = st.sampled_from(["", " ", "a", "\u00e9", "\ud800", "\0", "home.1", "x" * 600])
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


@given(
    st.sampled_from(["item", "user", "impression", "feedback", "drift", "other"]),
    st.dictionaries(
        st.sampled_from(
            ["item_id", "user_id", "request_id", "items", "time", "fields", "text", "domain", "name", "kind"]
        ),
        json_values,
    ),
)
def test_any_json_is_an_event_or_refused_with_a_known_reason(event: str, values: dict[str, object]) -> None:
    try:
        ROUTING.read(json.dumps({"event": event, **values}).encode(), NOW)
    except RefusedError as refused:
        assert refused.reason in REASONS
