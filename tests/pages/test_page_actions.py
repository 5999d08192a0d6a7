"""What a person does on the scorer's page, in a real Chromium: ranking, clicking, searching, and orders."""

from __future__ import annotations

import time

import pytest

from streaming.config import Config, ScorerConfig
from streaming.events import FeedbackEvent
from streaming.events.decisions import Order
from streaming.scorer.schema import DomainFacets, ScoreRequest
from tests.pages.conftest import Open
from tests.streaming.scorer.scoring_parts import FakeBackend, make_backbone, ordered, packed, record, serving

pytestmark = pytest.mark.browser


def test_every_action_works_by_keyboard_only(visit: Open, backend: FakeBackend, address: str) -> None:
    opened = visit(address)
    keys = opened.page.keyboard

    def go_to(selector: str) -> None:
        for _ in range(80):
            if opened.page.evaluate("where => document.activeElement.matches(where)", selector):
                return
            keys.press("Tab")
        raise AssertionError(f"{selector} is not reached by the Tab key")

    go_to(".skip")
    keys.press("Enter")
    go_to("#stratum")
    outline = opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    go_to("#orders [data-order=freeze]")
    keys.press("Enter")
    go_to("#order-by")
    keys.type("ann")
    go_to("#order-why")
    keys.type("looks odd")
    keys.press("Enter")
    opened.waits_for("#spoken", "Freeze main: ordered")
    assert not opened.page.evaluate("document.querySelector('#order-dialog').open")
    assert [(order.by, order.why, order.frozen) for order in backend.orders] == [("ann (no key)", "looks odd", True)]


def test_a_query_field_is_shown_only_for_a_backbone_that_reads_queries(visit: Open, address: str) -> None:
    assert not visit(address).page.locator("#try [name=query]").is_visible()
    backend = FakeBackend(reads_queries=True)
    backend.page.asked(ScoreRequest("196", ["a", "b", "c"], DomainFacets("home", "unknown", "day"), query="war films"))
    with serving(backend=backend) as port:
        opened = visit(f"http://127.0.0.1:{port}", ready=None)
        opened.page.locator("#recent").click()
        assert opened.page.locator("#try [name=query]").input_value() == "war films"
        opened.page.locator("#try button[type=submit]").click()
        opened.page.wait_for_selector("#live li")
        opened.page.locator("#try [name=query]").fill("")
        with opened.page.expect_response("**/v1/score") as answer:
            opened.page.locator("#try button[type=submit]").click()
        assert answer.value.ok
        assert backend.encoder.asked == ["war films"], "without one it recommends"
        assert opened.errors == []


def test_a_search_shows_the_relevance_of_each_item_in_the_order_of_the_answer(visit: Open) -> None:
    judging = make_backbone(query_aspects=("words",), relevance_weight=1.0)
    backend = FakeBackend(reads_queries=True, backbone=judging)
    backend.page.asked(ScoreRequest("196", ["a", "b", "c"], DomainFacets("home", "unknown", "day"), query="war films"))
    with serving(backend=backend) as port:
        opened = visit(f"http://127.0.0.1:{port}", ready=None)
        opened.page.locator("#recent").click()
        opened.page.locator("#try button[type=submit]").click()
        opened.page.wait_for_selector("#answered-rows tr")
        assert opened.page.locator("#answered-head th").all_inner_texts() == ["Item", "Score", "Click", "Relevance"]
        scores = [float(cell) for cell in opened.page.locator("#answered-rows td[data-label=Score]").all_inner_texts()]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        relevance = opened.page.locator("#answered-rows td[data-label=Relevance]").all_inner_texts()
        assert all(0 < float(cell) < 1 for cell in relevance)
        opened.page.locator("#try [name=query]").fill("")
        opened.page.locator("#try button[type=submit]").click()
        opened.page.wait_for_selector("#answered", state="hidden")
        assert opened.errors == []


def test_an_explored_ranking_says_which_place_by_score_its_first_item_has(visit: Open) -> None:
    backend = FakeBackend(Config(scorer=ScorerConfig(explore_share=1.0)))
    backend.page.asked(ScoreRequest("196", ["a", "b", "c"], DomainFacets("home", "unknown", "day")))
    with serving(backend=backend) as port:
        opened = visit(f"http://127.0.0.1:{port}", ready=None)
        opened.page.locator("#recent").click()
        with opened.page.expect_response("**/v1/score") as answer:
            opened.page.locator("#try button[type=submit]").click()
        place = answer.value.json()["explored"]["place"]
        opened.waits_for("#tried", f"the first one was drawn by chance, place {place} by score.")
        assert opened.errors == []


def test_orders_are_confirmed_reported_and_applied(visit: Open, backend: FakeBackend, address: str) -> None:
    opened = visit(address)
    opened.page.get_by_role("button", name="Pin version 3").click()
    assert "Every scorer serves version 3" in opened.text("#order-dialog")
    opened.page.get_by_role("button", name="Leave it").click()
    assert backend.orders == []
    opened.page.get_by_role("button", name="Roll back").click()
    opened.page.locator("#order-by").fill("ann")
    opened.page.get_by_role("button", name="Order it").click()
    opened.waits_for("#spoken", "waiting until this scorer obeys")
    (order,) = backend.orders
    kernel = packed(make_backbone(), 3)
    backend.active.apply_orders([ordered(Order("main", pinned_version=3, kernel=kernel, by=order.by, time=order.time))])
    opened.waits_for("#spoken", "version 3 is served")
    opened.waits_for("#served", "Version 3 is served")
    assert "version 3 is pinned (ann" in opened.text("#ordered")


def test_a_click_is_sent_and_the_next_kernel_changes_the_ranking(
    visit: Open, backend: FakeBackend, address: str
) -> None:
    opened = visit(address)
    opened.page.locator("#recent").click()
    opened.page.locator("#try button[type=submit]").click()
    opened.page.wait_for_selector("#live li")
    assert sorted(opened.page.locator("#live .item").all_inner_texts()) == ["a", "b", "c", "d", "e"]
    assert sorted(opened.page.locator("#frozen .item").all_inner_texts()) == ["a", "b", "c", "d", "e"]
    opened.page.get_by_role("button", name="Click c").click()
    opened.waits_for("#tried", "Clicked c. Waiting for a kernel")
    (event,) = backend.events
    assert isinstance(event, FeedbackEvent)
    assert event.item_id == "c"
    backend.active.take([record(packed(make_backbone(), 9, time=time.time() + 1))])
    opened.waits_for("#tried", "Kernel 9 has learned from it (before: 4)")
    assert any(mark for mark in opened.page.locator("#live .move").all_inner_texts())
