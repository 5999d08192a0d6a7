"""The scorer's page in a real Chromium: what a person on call sees, and must not be fooled by."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from model.drift.verdict import VerdictKind
from streaming.events.announcements import ANNOUNCED
from streaming.events.decisions import Decision, Order
from streaming.events.status import ArmStatus, ConversionStatus, GroupStatus
from streaming.scorer.page.history import VERDICT
from tests.pages.conftest import Open
from tests.pages.feed import domain
from tests.streaming.scorer.scoring_parts import FakeBackend, ordered, serving

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
    opened = visit(address)
    answers = opened.page.locator(".answer .words").all_inner_texts()
    assert answers[0] == "Yes, in scene=home."
    assert answers[1].startswith("Yes, in scene=home: log loss is 0.5") and answers[1].endswith("frozen.")
    assert answers[2].startswith("No sign of it")
    # Since drift was first named, although it has been called handled since then.
    named, handled = opened.page.locator(".answer .since").all_inner_texts()[:2]
    assert "11 min ago" in named
    assert handled == "", "a verdict has the time of the drift, not since when it is handled"


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_the_page_loads_from_the_scorer_only_without_errors_or_horizontal_scrolling(
    visit: Open, address: str, appearance: str
) -> None:
    opened = visit(address, **APPEARANCES[appearance])
    assert opened.errors == []
    assert opened.outside == []
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.page.locator("#chart .scatterlayer .trace").count() >= 6
    chart = opened.page.locator("#chart").bounding_box()
    assert chart is not None
    assert chart["width"] > 300
    assert chart["height"] > 400


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_axe_finds_no_accessibility_violation(visit: Open, address: str, appearance: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    opened = visit(address, **APPEARANCES[appearance])
    opened.page.get_by_text("The figures as a table").click()
    opened.page.locator("#recent").click()
    opened.page.locator("#try button[type=submit]").click()
    opened.page.wait_for_selector("#live li")
    found = Axe().run(opened.page).response["violations"]
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in found
        if violation["impact"] != "minor"
    ]
    assert serious == []


def test_each_domain_has_a_row_with_verdict_time_evidence_and_advice_worst_first(visit: Open, address: str) -> None:
    opened = visit(address)
    rows = opened.page.locator("#domains tbody tr").all_inner_texts()
    assert len(rows) == 7
    assert "whole group" in rows[0] and "scene=home" in rows[1]
    for part in ("drifting, handled", "the kernel follows", "min ago", "Nothing now", "Evidence"):
        assert part in rows[1]
    assert "stable" in rows[-1]
    opened.page.locator("#alarms-box summary").click()
    assert "scene=home: adwin on log_loss, 0.310 beyond 0.200" in opened.text("#alarms")
    opened.page.get_by_role("button", name="scene=home").click()
    opened.waits_for("#domains tr[aria-current]", "scene=home")
    assert opened.page.locator("#stratum").input_value() == "scene=home"


def test_conversions_are_shown_if_the_group_has_them(visit: Open, backend: FakeBackend, address: str) -> None:
    opened = visit(address)
    assert not opened.page.locator("#conversions").is_visible()
    look = backend.told.newest["main"]
    arms = {"frozen": ArmStatus(0.4291, 0.62, calibration=1.04), "live": ArmStatus(0.4037, 0.66, calibration=1.0)}
    converted = ConversionStatus(8_482, 0.1497, arms)
    backend.told.take(msgspec.structs.replace(look, time=look.time + 5, conversions=converted))
    opened.look_again()
    opened.waits_for("#converted", "15.0 % of the recent clicks")
    assert "8\u202f482 clicks were learned" in opened.text("#converted")
    assert "is published" in opened.text("#conversions-held")
    rows = [row.split() for row in opened.page.locator("#conversion-arms tbody tr").all_inner_texts()]
    assert rows == [["frozen", "0.429", "0.620", "1.04"], ["live", "0.404", "0.660", "1.00"]]
    aside = msgspec.structs.replace(converted, set_aside=["period=night"])
    backend.told.take(msgspec.structs.replace(look, time=look.time + 10, conversions=aside))
    opened.look_again()
    opened.waits_for("#conversions-held", "not believed in period=night")
    assert opened.errors == []


def test_a_table_holds_what_the_chart_shows(visit: Open, address: str) -> None:
    opened = visit(address)
    opened.page.get_by_text("The figures as a table").click()
    rows = opened.page.locator("#figures tbody tr").all_inner_texts()
    assert 20 <= len(rows) <= 24
    assert all(len(row.split()) >= 8 for row in rows)


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
    opened = visit(address)
    opened.page.locator("#stratum").select_option(HOSTILE)
    opened.waits_for("#domains tr[aria-current]", "onerror")
    assert opened.page.evaluate("window.fooled") is None
    assert opened.page.locator("main img, main script, main a, #chart a").count() == 0
    assert HOSTILE in opened.text("#happened")
    assert opened.errors == []


def test_a_lost_scorer_is_reported_and_reconnected(visit: Open, backend: FakeBackend) -> None:
    with serving(backend=backend) as port:
        opened = visit(f"http://127.0.0.1:{port}")
    opened.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    opened.waits_for("#feed", "does not answer; what stands here is of")
    assert opened.page.locator("#domains tbody tr").count() == 7
    with serving(backend=backend, port=port):
        opened.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        opened.waits_for("#feed", "As of")
    assert opened.errors == []


def test_a_hidden_page_sends_no_request(visit: Open, address: str) -> None:
    opened = visit(address)
    hide = "hidden => Object.defineProperty(document, 'hidden', {value: hidden, configurable: true})"
    opened.page.evaluate(hide, True)
    opened.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    opened.page.wait_for_timeout(200)
    before = len(opened.asked)
    opened.page.wait_for_timeout(6_000)
    assert len(opened.asked) == before
    opened.page.evaluate(hide, False)
    opened.look_again()


def test_the_memory_of_an_open_page_is_bounded(visit: Open, backend: FakeBackend, address: str) -> None:
    opened = visit(address)
    for _ in range(3):
        now = time.time()
        backend.told.add_decisions(
            Decision("held", "main", now + n / 1_000, "gate", {"reason": str(n)}) for n in range(400)
        )
        for n in range(1_500):
            last = backend.told.newest["main"].time
            backend.told.take(GroupStatus("main", last + 1, now, n, 300, domains=backend.told.newest["main"].domains))
        opened.look_again()
        opened.page.wait_for_timeout(300)
    assert opened.page.locator("#happened li").count() == 60
    points = opened.page.evaluate("document.querySelector('#chart').data[0].x.length")
    assert points < 4_000
    opened.look_again()
    assert opened.page.evaluate("document.querySelector('#chart').data[0].x.length") <= 2_500


def test_a_verdict_change_is_announced_to_screen_readers(visit: Open, backend: FakeBackend, address: str) -> None:
    opened = visit(address)
    assert opened.page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert opened.text("#spoken") == ""
    look = backend.told.newest["main"]
    later = look.time + 5
    broken = [domain("group", VerdictKind.BROKEN_BY_US, later, 0.6, -0.1), *list(look.domains)[1:]]
    backend.told.take(GroupStatus("main", later, time.time(), 1, 200, domains=broken))
    opened.look_again()
    opened.waits_for("#spoken", "whole group: broken by us.")
    opened.waits_for("#answers", "Yes: the kernel does harm in the whole group.")
    assert opened.page.title().startswith("▲")


def test_a_new_system_shows_what_is_not_known(visit: Open) -> None:
    with serving() as port:
        opened = visit(f"http://127.0.0.1:{port}", ready=None)
        opened.waits_for("#feed", "No processor has reported yet")
        assert (
            opened.page.locator(".answer .words").all_inner_texts() == ["Not known: no processor has reported yet."] * 3
        )
        for empty in ("#chart-empty", "#domains-empty", "#happened-empty"):
            assert opened.page.locator(empty).is_visible()
        assert opened.errors == []


def test_the_api_page_works_with_the_network_blocked(visit: Open, address: str) -> None:
    opened = visit(address, "/docs", ready="h1")
    opened.page.route(
        "**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort()
    )
    opened.page.reload()
    assert opened.errors == [] and opened.outside == []
    assert "POST /v1/orders" in opened.text("body")
    assert opened.page.evaluate("getComputedStyle(document.body).fontFamily").startswith("system-ui")
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_verdict_of_the_group_applies_to_its_domains_from_then_on_only(visit: Open, address: str) -> None:
    stretches = visit(address).page.evaluate(
        """async () => (await import("/page/chart.js")).stretches(
            [{ stratum: "group", verdict: "drifting_handled", evidence: {} },
             { stratum: "scene=home", verdict: "drifting_handled", evidence: { shares: "group" } },
             { stratum: "scene=search", verdict: "input_fault", evidence: {} }],
            [{ kind: "verdict", time: 4, detail: { stratum: "group", from: "stable", to: "drifting_unhandled" } },
             { kind: "verdict", time: 6, detail: { stratum: "scene=search", from: "stable", to: "input_fault" } },
             { kind: "verdict", time: 8,
               detail: { stratum: "group", from: "drifting_unhandled", to: "drifting_handled" } }], 0, 10)"""
    )
    spans = [(span["stratum"], span["kind"], span["begin"], span["end"]) for span in stretches]
    assert spans == [
        ("group", "stable", 0, 4), ("group", "drifting_unhandled", 4, 8), ("group", "drifting_handled", 8, 10),
        ("scene=home", "stable", 0, 4), ("scene=home", "drifting_unhandled", 4, 8),
        ("scene=home", "drifting_handled", 8, 10),
        ("scene=search", "stable", 0, 4), ("scene=search", "drifting_unhandled", 4, 6),
        ("scene=search", "input_fault", 6, 10),
    ]  # fmt: skip
