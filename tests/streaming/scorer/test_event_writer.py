"""Events over HTTP: by the same rules as the topic's reader, and never more than can be written."""

from __future__ import annotations

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
    Event,
    FeedbackEvent,
    ImpressionEvent,
    ItemEvent,
    RefusedError,
    UserEvent,
    encode_event,
)
from streaming.events.rules import EventRules
from streaming.ingest.routing import Routing
from streaming.scorer.event_writer import decode_events
from streaming.scorer.schema import RequestRefused

NOW = 1_800_000_000.0
CONFIG = Config(
    domains=DomainConfig(scene=("home",)),
    groups=(GroupConfig(name="main", scene=("home",)),),
    ingest=IngestConfig(max_items=3),
)
RULES = EventRules(CONFIG)

WRONG: dict[str, tuple[Event, str, str]] = {
    "no item": (ItemEvent("", NOW), "bad_id", "`item_id` is empty"),
    "a blank user": (UserEvent(" \t", NOW), "bad_id", "`user_id` is empty"),
    "a long id": (UserEvent("u" * 513, NOW), "bad_id", "513 characters"),
    "no request": (FeedbackEvent("", "i", NOW), "bad_id", "`request_id` is empty"),
    "feedback on nothing": (FeedbackEvent("main.r", "", NOW), "bad_id", "`item_id` is empty"),
    "a nameless shown item": (ImpressionEvent("main.r", NOW, "u", ["i", ""]), "bad_id", "`items[1]` is empty"),
    "shown to nobody": (ImpressionEvent("main.r", NOW, "", ["i"]), "bad_id", "`user_id` is empty"),
    "milliseconds": (UserEvent("u", NOW * 1e3), "future", "milliseconds"),
    "nanoseconds": (FeedbackEvent("main.r", "i", NOW * 1e9), "future", "milliseconds or finer"),
    "before the epoch": (ItemEvent("i", -1.0), "bad_time", "`time` is -1.0"),
    "in two days": (UserEvent("u", NOW + 172_800), "future", "172800 s ahead"),
    "nothing shown": (ImpressionEvent("main.r", NOW, "u", []), "no_items", "empty"),
    "shown twice": (ImpressionEvent("main.r", NOW, "u", ["i", "i"]), "repeated_item", "more than once"),
    "too many shown": (ImpressionEvent("main.r", NOW, "u", ["1", "2", "3", "4"]), "too_many_items", "at most 3"),
    "a drift without name": (DriftEvent("", "sale", "begins", NOW), "bad_announcement", "name"),
    "no group": (FeedbackEvent("r", "i", NOW), "no_group", "names no kernel group"),
    "a domain of no group": (FeedbackEvent("r", "i", NOW, domain=Domain("shop")), "no_group", "shop"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_event_is_refused_with_the_reason_of_ingest_and_its_index(case: str) -> None:
    event, reason, detail = WRONG[case]
    for body, position in (
        (encode_event(event), ""),
        (msgspec.json.encode([UserEvent("u", NOW), event]), " - at `$[1]`"),
    ):
        with pytest.raises(RequestRefused) as refused:
            decode_events(body, RULES, NOW, 5)
        assert (refused.value.problem.error, refused.value.status) == (reason, 400)
        assert detail in refused.value.problem.detail
        assert refused.value.problem.detail.endswith(position)


IDS = st.sampled_from(["", " ", "a", "main.r", "main", "r.1", "x" * 512, "x" * 513])
TIMES = st.sampled_from([-1.0, 0.0, NOW, NOW + 86_399, NOW + 86_401, NOW * 1e3, 1e300])
DOMAINS = st.sampled_from([None, Domain(), Domain("home"), Domain("cinema")])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(ItemEvent, IDS, TIMES),
    st.builds(UserEvent, IDS, TIMES),
    st.builds(ImpressionEvent, IDS, TIMES, IDS, st.lists(IDS, max_size=4), DOMAINS.map(lambda d: d or Domain())),
    st.builds(FeedbackEvent, IDS, IDS, TIMES, domain=DOMAINS),
    st.builds(DriftEvent, IDS, IDS, st.just("begins"), TIMES),
)


def _by_topic(event: Event) -> str | None:
    routing = Routing(CONFIG)
    try:
        read = routing.read(encode_event(event), NOW)
        if isinstance(read, ImpressionEvent | FeedbackEvent):
            routing.partition(read)
    except RefusedError as refused:
        return refused.reason
    return None


def _by_http(event: Event) -> str | None:
    try:
        decode_events(encode_event(event), RULES, NOW, 5)
    except RequestRefused as refused:
        return refused.problem.error
    return None


@given(EVENTS)
def test_http_and_ingest_refuse_the_same_events_for_the_same_reasons(event: Event) -> None:
    reason = _by_http(event)
    assert reason == _by_topic(event)
    assert reason is None or reason in REASONS


def test_too_many_events_in_one_call_are_refused_permanently() -> None:
    with pytest.raises(RequestRefused, match=r"6 events, at most 5.*access\.max_events") as refused:
        decode_events(msgspec.json.encode([UserEvent("u", NOW)] * 6), RULES, NOW, 5)
    assert (refused.value.problem.error, refused.value.status) == ("too_many_events", 413)
