"""The scorer's page in a real Chromium: what a person on call sees, does and must not be fooled by."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from model.drift.verdict import VerdictKind
from streaming.config import AccessConfig, Config
from streaming.config.access import KeyConfig, Right
from streaming.events import FeedbackEvent
from streaming.events.announcements import ANNOUNCED
from streaming.events.decisions import Decision, Order
from streaming.events.status import ArmStatus, ConversionStatus, GroupStatus
from streaming.scorer.access import key_hash, new_key
from streaming.scorer.page.history import VERDICT
from streaming.scorer.schema import DomainFacets, ScoreRequest
from tests.pages.conftest import Open, Visit
from tests.pages.feed import domain, tell
from tests.streaming.scorer.scoring_parts import FakeBackend, make_backbone, ordered, packed, record, serving

pytestmark = pytest.mark.browser

APPEARANCES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 740}},
    "narrow and dark": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
}
HOSTILE = (
    "<img src=x onerror=\"window.fooled=1\"><script>window.fooled=1</script><a href='javascript:window.fooled=1'>x</a>"
)


def test_three_sentences_answer_the_person_on_call(visit: Open, address: str) -> None:
    seen = visit(address)
    answers = seen.page.locator(".answer .words").all_inner_texts()
    assert answers[0] == "Yes, in scene=home."
    assert answers[1].startswith("Yes, in scene=home: log loss is 0.5") and answers[1].endswith("frozen.")
    assert answers[2].startswith("No sign of it")
    # Since drift was first named, although it has been called handled since then.
    named, handled = seen.page.locator(".answer .since").all_inner_texts()[:2]
    assert "11 min ago" in named and "8 min ago" in handled


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_the_page_loads_from_the_scorer_only_without_errors_or_horizontal_scrolling(
    visit: Open, address: str, appearance: str
) -> None:
    seen = visit(address, **APPEARANCES[appearance])
    assert seen.errors == []
    assert seen.outside == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert seen.page.locator("#chart .scatterlayer .trace").count() >= 6
    chart = seen.page.locator("#chart").bounding_box()
    assert chart is not None
    assert chart["width"] > 300
    assert chart["height"] > 400


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_axe_finds_no_accessibility_violation(visit: Open, address: str, appearance: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    seen = visit(address, **APPEARANCES[appearance])
    seen.page.get_by_text("The figures as a table").click()
    seen.page.locator("#recent").click()
    seen.page.locator("#try button[type=submit]").click()
    seen.page.wait_for_selector("#live li")
    found = Axe().run(seen.page).response["violations"]
    serious = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found if one["impact"] != "minor"]
    assert serious == []


def test_each_domain_has_a_row_with_verdict_time_evidence_and_advice_worst_first(visit: Open, address: str) -> None:
    seen = visit(address)
    rows = seen.page.locator("#domains tbody tr").all_inner_texts()
    assert len(rows) == 7
    assert "whole group" in rows[0] and "scene=home" in rows[1]
    for part in ("drifting, handled", "the kernel follows", "min ago", "Nothing now", "Evidence"):
        assert part in rows[1]
    assert "stable" in rows[-1]
    seen.page.locator("#alarms-box summary").click()
    assert "scene=home: adwin on log_loss, 0.310 beyond 0.200" in seen.text("#alarms")
    seen.page.get_by_role("button", name="scene=home").click()
    seen.waits_for("#domains tr[aria-current]", "scene=home")
    assert seen.page.locator("#stratum").input_value() == "scene=home"


def test_conversions_are_shown_if_the_group_has_them(visit: Open, backend: FakeBackend, address: str) -> None:
    seen = visit(address)
    assert not seen.page.locator("#conversions").is_visible()
    look = backend.told.newest["main"]
    arms = {"frozen": ArmStatus(0.4291, 0.62, calibration=1.04), "live": ArmStatus(0.4037, 0.66, calibration=1.0)}
    told = ConversionStatus(8_482, 0.1497, arms)
    backend.told.take(msgspec.structs.replace(look, time=look.time + 5, conversions=told))
    seen.look_again()
    seen.waits_for("#converted", "15.0 % of the recent clicks")
    assert "8\u202f482 clicks were learned" in seen.text("#converted")
    assert "is published" in seen.text("#conversions-held")
    rows = [row.split() for row in seen.page.locator("#conversion-arms tbody tr").all_inner_texts()]
    assert rows == [["frozen", "0.429", "0.620", "1.04"], ["live", "0.404", "0.660", "1.00"]]
    aside = msgspec.structs.replace(told, set_aside=["period=night"])
    backend.told.take(msgspec.structs.replace(look, time=look.time + 10, conversions=aside))
    seen.look_again()
    seen.waits_for("#conversions-held", "not believed in period=night")
    assert seen.errors == []


def test_a_table_holds_what_the_chart_shows(visit: Open, address: str) -> None:
    seen = visit(address)
    seen.page.get_by_text("The figures as a table").click()
    rows = seen.page.locator("#figures tbody tr").all_inner_texts()
    assert 20 <= len(rows) <= 24
    assert all(len(row.split()) >= 8 for row in rows)


def test_every_action_works_by_keyboard_only(visit: Open, backend: FakeBackend, address: str) -> None:
    seen = visit(address)
    keys = seen.page.keyboard

    def go_to(selector: str) -> None:
        for _ in range(80):
            if seen.page.evaluate("where => document.activeElement.matches(where)", selector):
                return
            keys.press("Tab")
        raise AssertionError(f"{selector} is not reached by the Tab key")

    go_to(".skip")
    keys.press("Enter")
    go_to("#stratum")
    outline = seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    go_to("#orders [data-order=freeze]")
    keys.press("Enter")
    go_to("#order-by")
    keys.type("ann")
    go_to("#order-why")
    keys.type("looks odd")
    keys.press("Enter")
    seen.waits_for("#spoken", "Freeze main")
    seen.page.wait_for_function("!document.querySelector('#order-dialog').open")
    assert [(order.by, order.why, order.frozen) for order in backend.orders] == [("ann (no key)", "looks odd", True)]


def test_external_names_are_rendered_as_text(visit: Open, backend: FakeBackend, address: str) -> None:
    now = time.time()
    strange = domain(HOSTILE, VerdictKind.UNHANDLED, now - 60, 0.7, 0.0, words=HOSTILE, advice=HOSTILE)
    look = GroupStatus("main", now, now, 1, 200, domains=[domain("group", VerdictKind.STABLE, now, 0.6, 0.1), strange])
    backend.told.take(look)
    detail = {"stratum": "group", "from": HOSTILE, "to": HOSTILE, "words": HOSTILE}
    backend.told.add_decisions([
        Decision(ANNOUNCED, "", now - 90, "x", {"name": HOSTILE, "kind": "a", "phase": HOSTILE}),
        Decision(VERDICT, "main", now - 60, "monitor", detail),
        Decision("pin", "main", now - 30, HOSTILE, {"why": HOSTILE, "version": 1}),
    ])  # fmt: skip
    backend.active.apply_orders([ordered(Order("main", frozen=True, by=HOSTILE, why=HOSTILE, time=now))])
    seen = visit(address)
    seen.page.locator("#stratum").select_option(HOSTILE)
    seen.waits_for("#domains tr[aria-current]", "onerror")
    assert seen.page.evaluate("window.fooled") is None
    assert seen.page.locator("main img, main script, main a, #chart a").count() == 0
    assert HOSTILE in seen.text("#happened")
    assert seen.errors == []


def _config_with_key(*rights: Right) -> tuple[Config, str]:
    key = new_key()
    config = KeyConfig(name="oncall", hash=key_hash(key), may=rights)
    return Config(access=AccessConfig(keys=(config,))), key


def _enter_key(seen: Visit, key: str) -> None:
    if not seen.page.evaluate("document.querySelector('#key-dialog').open"):
        seen.page.locator("#open-key").click()
    seen.page.locator("#key").fill(key)
    seen.page.get_by_role("button", name="Use it").click()


def test_a_key_is_requested_and_stored_in_the_tab_only(visit: Open) -> None:
    config, key = _config_with_key("operator")
    backend = FakeBackend(config)
    with serving(config, backend) as port:
        address = f"http://127.0.0.1:{port}"
        seen = visit(address, ready="#key-dialog[open]")
        assert "key" in seen.text("#feed").lower()
        _enter_key(seen, "dl_wrong")
        seen.waits_for("#notice", "is not among access.keys")
        _enter_key(seen, key)
        seen.waits_for("#feed", "No processor has reported yet")
        assert seen.page.locator("#notice").is_hidden()
        assert seen.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        other = seen.page.context.new_page()
        other.goto(address)
        other.wait_for_selector("#key-dialog[open]")
        seen.page.locator("#open-key").click()
        seen.page.get_by_role("button", name="Forget it").click()
        seen.waits_for("#notice", "needs a key")
        assert seen.page.evaluate("sessionStorage.length") == 0


def test_a_key_that_may_only_score_does_not_see_the_page(visit: Open) -> None:
    config, key = _config_with_key("score", "feedback")
    with serving(config, FakeBackend(config)) as port:
        seen = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(seen, key)
        seen.waits_for("#notice", "may not 'read'")


def test_holding_and_rolling_back_take_the_right_of_an_operator(visit: Open) -> None:
    config, key = _config_with_key("read")
    backend = FakeBackend(config)
    with serving(config, backend) as port:
        seen = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(seen, key)
        seen.waits_for("#feed", "No processor has reported yet")
        refused = seen.page.evaluate(
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
        seen = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(seen, key)
        seen.page.wait_for_selector("#versions tbody tr")
        assert (
            seen.page.locator("#orders button:enabled, #versions button:enabled, #try [type=submit]:enabled").count()
            == 0
        )
        assert "gives no orders: they take one that may operator" in seen.text("#orders-why")
        assert "may not score or feedback: it ranks nothing" in seen.text("#try-why")


def test_a_key_that_may_rank_but_not_send_clicks_ranks_with_a_note(visit: Open) -> None:
    config, key = _config_with_key("read", "score")
    backend = FakeBackend(config)
    backend.page.asked(ScoreRequest("196", ["a", "b"], DomainFacets("home", "unknown", "day")))
    with serving(config, backend) as port:
        seen = visit(f"http://127.0.0.1:{port}", ready="#key-dialog[open]")
        _enter_key(seen, key)
        seen.page.locator("#recent").click()
        seen.page.locator("#try button[type=submit]").click()
        seen.page.wait_for_selector("#live li")
        assert seen.page.locator("#live button:enabled").count() == 0
        assert "may not feedback: it ranks, but does not click" in seen.text("#try-why")


def test_an_operator_and_anybody_without_configured_keys_is_offered_everything(visit: Open, address: str) -> None:
    seen = visit(address)
    assert seen.page.locator("#orders button:enabled").count() == 4
    assert seen.page.locator("#orders-why, #try-why").filter(visible=True).count() == 0


def test_a_query_field_is_shown_only_for_a_backbone_that_reads_queries(visit: Open, address: str) -> None:
    assert not visit(address).page.locator("#try [name=query]").is_visible()
    backend = FakeBackend(reads_queries=True)
    backend.page.asked(ScoreRequest("196", ["a", "b", "c"], DomainFacets("home", "unknown", "day"), query="war films"))
    with serving(backend=backend) as port:
        seen = visit(f"http://127.0.0.1:{port}", ready=None)
        seen.page.locator("#recent").click()
        assert seen.page.locator("#try [name=query]").input_value() == "war films"
        seen.page.locator("#try button[type=submit]").click()
        seen.page.wait_for_selector("#live li")
        seen.page.locator("#try [name=query]").fill("")
        seen.page.locator("#try button[type=submit]").click()
        seen.waits_for("#live .move", "")
        assert backend.encoder.asked == ["war films"], "without one it recommends"
        assert seen.errors == []


def test_a_search_shows_the_relevance_of_each_item_in_the_order_of_the_answer(visit: Open) -> None:
    judging = make_backbone(query_aspects=("words",), relevance_weight=1.0)
    backend = FakeBackend(reads_queries=True, backbone=judging)
    backend.page.asked(ScoreRequest("196", ["a", "b", "c"], DomainFacets("home", "unknown", "day"), query="war films"))
    with serving(backend=backend) as port:
        seen = visit(f"http://127.0.0.1:{port}", ready=None)
        seen.page.locator("#recent").click()
        seen.page.locator("#try button[type=submit]").click()
        seen.page.wait_for_selector("#answered-rows tr")
        assert seen.page.locator("#answered-head th").all_inner_texts() == ["Item", "Score", "Click", "Relevance"]
        scores = [float(cell) for cell in seen.page.locator("#answered-rows td[data-label=Score]").all_inner_texts()]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        relevance = seen.page.locator("#answered-rows td[data-label=Relevance]").all_inner_texts()
        assert all(0 < float(cell) < 1 for cell in relevance)
        seen.page.locator("#try [name=query]").fill("")
        seen.page.locator("#try button[type=submit]").click()
        seen.page.wait_for_selector("#answered", state="hidden")
        assert seen.errors == []


def test_orders_are_confirmed_reported_and_applied(visit: Open, backend: FakeBackend, address: str) -> None:
    seen = visit(address)
    seen.page.get_by_role("button", name="Pin version 3").click()
    assert "Every scorer serves version 3" in seen.text("#order-dialog")
    seen.page.get_by_role("button", name="Leave it").click()
    assert backend.orders == []
    seen.page.get_by_role("button", name="Roll back").click()
    seen.page.locator("#order-by").fill("ann")
    seen.page.get_by_role("button", name="Order it").click()
    seen.waits_for("#spoken", "waiting until this scorer obeys")
    (order,) = backend.orders
    kernel = packed(make_backbone(), 3)
    backend.active.apply_orders([ordered(Order("main", pinned_version=3, kernel=kernel, by=order.by, time=order.time))])
    seen.waits_for("#spoken", "version 3 is served")
    seen.waits_for("#served", "Version 3 is served")
    assert "version 3 is pinned (ann" in seen.text("#ordered")


def test_a_lost_scorer_is_reported_and_reconnected(visit: Open, backend: FakeBackend) -> None:
    with serving(backend=backend) as port:
        seen = visit(f"http://127.0.0.1:{port}")
    seen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    seen.waits_for("#feed", "does not answer; what stands here is of")
    assert seen.page.locator("#domains tbody tr").count() == 7
    with serving(backend=backend, port=port):
        seen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        seen.waits_for("#feed", "As of")
    assert seen.errors == []


def test_a_hidden_page_sends_no_request(visit: Open, address: str) -> None:
    seen = visit(address)
    hide = "hidden => Object.defineProperty(document, 'hidden', {value: hidden, configurable: true})"
    seen.page.evaluate(hide, True)
    seen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    seen.page.wait_for_timeout(200)
    before = len(seen.asked)
    seen.page.wait_for_timeout(6_000)
    assert len(seen.asked) == before
    seen.page.evaluate(hide, False)
    seen.look_again()


def test_the_memory_of_an_open_page_is_bounded(visit: Open, backend: FakeBackend, address: str) -> None:
    seen = visit(address)
    for _ in range(3):
        now = time.time()
        backend.told.add_decisions(
            Decision("held", "main", now + n / 1_000, "gate", {"reason": str(n)}) for n in range(400)
        )
        for n in range(1_500):
            last = backend.told.newest["main"].time
            backend.told.take(GroupStatus("main", last + 1, now, n, 300, domains=backend.told.newest["main"].domains))
        seen.look_again()
        seen.page.wait_for_timeout(300)
    assert seen.page.locator("#happened li").count() == 60
    points = seen.page.evaluate("document.querySelector('#chart').data[0].x.length")
    assert points < 4_000
    seen.look_again()
    assert seen.page.evaluate("document.querySelector('#chart').data[0].x.length") <= 2_500


def test_a_verdict_change_is_announced_to_screen_readers(visit: Open, backend: FakeBackend, address: str) -> None:
    seen = visit(address)
    assert seen.page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert seen.text("#spoken") == ""
    look = backend.told.newest["main"]
    later = look.time + 5
    broken = [domain("group", VerdictKind.BROKEN_BY_US, later, 0.6, -0.1), *list(look.domains)[1:]]
    backend.told.take(GroupStatus("main", later, time.time(), 1, 200, domains=broken))
    seen.look_again()
    seen.waits_for("#spoken", "whole group: broken by us.")
    seen.waits_for("#answers", "Yes: the kernel does harm in the whole group.")
    assert seen.page.title().startswith("▲")


def test_a_new_system_shows_what_is_not_known(visit: Open) -> None:
    with serving() as port:
        seen = visit(f"http://127.0.0.1:{port}", ready=None)
        seen.waits_for("#feed", "No processor has reported yet")
        assert (
            seen.page.locator(".answer .words").all_inner_texts() == ["Not known: no processor has reported yet."] * 3
        )
        for empty in ("#chart-empty", "#domains-empty", "#happened-empty"):
            assert seen.page.locator(empty).is_visible()
        assert seen.errors == []


def test_a_click_is_sent_and_the_next_kernel_changes_the_ranking(
    visit: Open, backend: FakeBackend, address: str
) -> None:
    seen = visit(address)
    seen.page.locator("#recent").click()
    seen.page.locator("#try button[type=submit]").click()
    seen.page.wait_for_selector("#live li")
    assert sorted(seen.page.locator("#live .item").all_inner_texts()) == ["a", "b", "c", "d", "e"]
    assert sorted(seen.page.locator("#frozen .item").all_inner_texts()) == ["a", "b", "c", "d", "e"]
    seen.page.get_by_role("button", name="Click c").click()
    seen.waits_for("#tried", "Clicked c. Waiting for a kernel")
    (event,) = backend.events
    assert isinstance(event, FeedbackEvent)
    assert event.item_id == "c"
    backend.active.take([record(packed(make_backbone(), 9, time=time.time() + 1))])
    seen.waits_for("#tried", "Kernel 9 has learned from it (before: 4)")
    assert any(mark for mark in seen.page.locator("#live .move").all_inner_texts())


def test_the_api_page_works_with_the_network_blocked(visit: Open, address: str) -> None:
    seen = visit(address, "/docs", ready="h1")
    seen.page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort())
    seen.page.reload()
    assert seen.errors == [] and seen.outside == []
    assert "POST /v1/orders" in seen.text("body")
    assert seen.page.evaluate("getComputedStyle(document.body).fontFamily").startswith("system-ui")
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_verdict_of_the_group_applies_to_its_domains_from_then_on_only(visit: Open, address: str) -> None:
    told = visit(address).page.evaluate(
        """async () => (await import("/page/chart.js")).stretches(
            [{ stratum: "group", verdict: "drifting_handled", evidence: {} },
             { stratum: "scene=home", verdict: "drifting_handled", evidence: { shares: "group" } },
             { stratum: "scene=search", verdict: "input_fault", evidence: {} }],
            [{ kind: "verdict", time: 4, detail: { stratum: "group", from: "stable", to: "drifting_unhandled" } },
             { kind: "verdict", time: 6, detail: { stratum: "scene=search", from: "stable", to: "input_fault" } },
             { kind: "verdict", time: 8,
               detail: { stratum: "group", from: "drifting_unhandled", to: "drifting_handled" } }], 0, 10)"""
    )
    spans = [(span["stratum"], span["kind"], span["begin"], span["end"]) for span in told]
    assert spans == [
        ("group", "stable", 0, 4), ("group", "drifting_unhandled", 4, 8), ("group", "drifting_handled", 8, 10),
        ("scene=home", "stable", 0, 4), ("scene=home", "drifting_unhandled", 4, 8),
        ("scene=home", "drifting_handled", 8, 10),
        ("scene=search", "stable", 0, 4), ("scene=search", "drifting_unhandled", 4, 6),
        ("scene=search", "input_fault", 6, 10),
    ]  # fmt: skip
