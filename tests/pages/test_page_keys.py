"""What each right of an API key opens on the scorer's page, in a real Chromium."""

from __future__ import annotations

import time

import pytest

from streaming.config import AccessConfig, Config
from streaming.config.access import KeyConfig, Right
from streaming.scorer.access import key_hash, new_key
from streaming.scorer.schema import DomainFacets, ScoreRequest
from tests.pages.conftest import Open, Visit
from tests.pages.feed import tell
from tests.streaming.scorer.scoring_parts import FakeBackend, serving

pytestmark = pytest.mark.browser


def _config_with_key(*rights: Right) -> tuple[Config, str]:
    key = new_key()
    config = KeyConfig(name="oncall", hash=key_hash(key), may=rights)
    return Config(access=AccessConfig(keys=(config,))), key


def _enter_key(opened: Visit, key: str) -> None:
    if not opened.page.evaluate("document.querySelector('#key-dialog').open"):
        opened.page.locator("#open-key").click()
    opened.page.locator("#key").fill(key)
    opened.page.get_by_role("button", name="Use it").click()


def test_a_key_is_requested_and_stored_in_the_tab_only(visit: Open) -> None:
    config, key = _config_with_key("operator")
    backend = FakeBackend(config)
    with serving(config, backend) as port:
        address = f"http://127.0.0.1:{port}"
        opened = visit(address, ready="#key-dialog[open]")
        assert "key" in opened.text("#feed").lower()
        _enter_key(opened, "dl_wrong")
        opened.waits_for("#notice", "is not among access.keys")
        _enter_key(opened, key)
        opened.waits_for("#feed", "No processor has reported yet")
        assert opened.page.locator("#notice").is_hidden()
        assert opened.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        other = opened.page.context.new_page()
        other.goto(address)
        other.wait_for_selector("#key-dialog[open]")
        opened.page.locator("#open-key").click()
        opened.page.get_by_role("button", name="Forget it").click()
        opened.waits_for("#notice", "needs a key")
        assert opened.page.evaluate("sessionStorage.length") == 0


def test_a_key_that_may_only_score_does_not_see_the_page(visit: Open) -> None:
    config, key = _config_with_key("score", "feedback")
    with serving(config, FakeBackend(config)) as port:
        opened = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(opened, key)
        opened.waits_for("#notice", "may not 'read'")


def test_holding_and_rolling_back_take_the_right_of_an_operator(visit: Open) -> None:
    config, key = _config_with_key("read")
    backend = FakeBackend(config)
    with serving(config, backend) as port:
        opened = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(opened, key)
        opened.waits_for("#feed", "No processor has reported yet")
        refused = opened.page.evaluate(
            """key => fetch("/v1/orders", {method: "POST", headers: {Authorization: `Bearer ${key}`},
            body: JSON.stringify({group: "main", order: "freeze"})}).then(answer => answer.status)""",
            key,
        )
        assert refused == 403
        assert backend.orders == []


def test_a_read_only_key_is_offered_no_order_and_no_ranking_with_the_reason(visit: Open) -> None:
    config, key = _config_with_key("read")
    backend = FakeBackend(config)
    tell(backend.told, time.time())
    with serving(config, backend) as port:
        opened = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(opened, key)
        opened.page.wait_for_selector("#versions tbody tr")
        assert (
            opened.page.locator("#orders button:enabled, #versions button:enabled, #try [type=submit]:enabled").count()
            == 0
        )
        assert "gives no orders: they take one that may operator" in opened.text("#orders-why")
        assert "may not score or feedback: it ranks nothing" in opened.text("#try-why")


def test_a_key_that_may_rank_but_not_send_clicks_ranks_with_a_note(visit: Open) -> None:
    config, key = _config_with_key("read", "score")
    backend = FakeBackend(config)
    backend.page.asked(ScoreRequest("196", ["a", "b"], DomainFacets("home", "unknown", "day")))
    with serving(config, backend) as port:
        opened = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(opened, key)
        opened.page.locator("#recent").click()
        opened.page.locator("#try button[type=submit]").click()
        opened.page.wait_for_selector("#live li")
        assert opened.page.locator("#live button:enabled").count() == 0
        assert "may not feedback: it ranks, but does not click" in opened.text("#try-why")


def test_an_operator_and_anybody_without_configured_keys_is_offered_everything(visit: Open, address: str) -> None:
    opened = visit(address)
    assert opened.page.locator("#orders button:enabled").count() == 4
    assert opened.page.locator("#orders-why, #try-why").filter(visible=True).count() == 0
