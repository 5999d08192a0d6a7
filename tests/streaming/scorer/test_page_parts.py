"""The parts behind the page, without a broker: the bounded past, the three answers, its files and endpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.drift.appearance import APPEARANCES
from model.drift.verdict import VerdictKind
from streaming.config import AccessConfig, Config
from streaming.config.access import KeyConfig
from streaming.events.decisions import Decision
from streaming.events.status import ArmStatus, ConversionStatus, DomainStatus, GroupStatus
from streaming.scorer import page
from streaming.scorer.access import key_hash, new_key
from streaming.scorer.page.answers import OLD_S, Answer, answers
from streaming.scorer.page.history import (
    HORIZON_S,
    MAX_DECISIONS,
    MAX_POINTS,
    MAX_STRATA,
    VERDICT,
    StatusHistory,
    StatusSeries,
)
from streaming.scorer.schema import CurrentKernel, KernelRefusal, ScoreRequest
from tests.pages.feed import BEGINS, EVERY_S, NAMED, changes, domain, tell
from tests.streaming.scorer.scoring_parts import FakeBackend, asgi_client

NOW = 1_790_000_000.0
KERNEL = CurrentKernel("main", 7)


def look(time: float, *domains: DomainStatus, **changed: Any) -> GroupStatus:
    return msgspec.structs.replace(GroupStatus("main", time, time, 1, 7, domains=list(domains)), **changed)


def answers_for(
    *domains: DomainStatus, kernel: CurrentKernel = KERNEL, shown_since: float | None = None, **changed: Any
) -> list[Answer]:
    return answers([look(NOW, *domains, **changed)] if domains else [], [kernel], [], [], NOW, shown_since=shown_since)


def stratum(name: str, kind: VerdictKind) -> DomainStatus:
    return domain(name, kind, NOW - 60, 0.6, 0.05)


def test_quarantined_or_held_conversions_are_reported_if_nothing_is_worse() -> None:
    aside = ConversionStatus(640, set_aside=["scene=home"])
    broken = answers_for(stratum("group", VerdictKind.STABLE), conversions=aside)[2]
    assert broken.tone == "watch"
    assert broken.words == "Conversions of main are not believed in scene=home: look at what sends them."
    held = ConversionStatus(640, held="the candidate is on probation")
    words = answers_for(stratum("group", VerdictKind.STABLE), conversions=held)[2].words
    assert words == "The gate holds back new conversions of main: the candidate is on probation."
    assert answers_for(stratum("group", VerdictKind.STABLE), conversions=ConversionStatus(640))[2].tone == "good"


# --- the past ---


@given(steps=st.lists(st.floats(0.1, 60), min_size=1, max_size=60), many=st.integers(1, 120))
def test_the_history_is_bounded_ordered_and_always_holds_the_newest_status(steps: list[float], many: int) -> None:
    past, time = StatusSeries(), NOW
    for step in steps * many:
        time += step
        past.add(look(time, stratum("group", VerdictKind.STABLE)))
    times, versions, series = past.since("group", 0)
    assert len(past) == len(times) == len(versions) == len(series["live_auc"]) <= MAX_POINTS
    assert times == sorted(set(times))
    assert times[-1] == time
    assert len(times) >= min(len(steps) * many, MAX_POINTS // 4) or times[0] >= time - HORIZON_S


def test_the_history_since_a_time_has_gaps_before_a_new_domain() -> None:
    past = StatusSeries()
    past.add(look(NOW, stratum("group", VerdictKind.STABLE)))
    past.add(look(NOW + 5, stratum("group", VerdictKind.STABLE), stratum("scene=new", VerdictKind.STABLE)))
    past.add(look(NOW + 10, stratum("group", VerdictKind.STABLE)))
    times, _, series = past.since("scene=new", 0)
    assert times == [NOW, NOW + 5, NOW + 10]
    assert np.isfinite(series["frozen_log_loss"]).tolist() == [False, True, False]
    assert past.since("group", NOW + 5)[0] == [NOW + 10]
    assert past.since("no such domain", 0)[2] == {}


def test_a_time_that_jumps_back_or_is_missing_adds_nothing() -> None:
    past = StatusSeries()
    for time in (NOW, NOW - 5, NOW, float("nan"), float("-inf"), NOW + 1):
        past.add(look(time, stratum("group", VerdictKind.STABLE)))
    assert past.since("group", 0)[0] == [NOW, NOW + 1]


def test_strata_and_decisions_are_bounded_and_only_new_ones_are_returned() -> None:
    history = StatusHistory(("main",))
    history.take(look(NOW, *(stratum(f"scene={n}", VerdictKind.STABLE) for n in range(MAX_STRATA + 9))))
    assert history.series_by_group["main"].since(f"scene={MAX_STRATA}", 0)[2] == {}
    history.take(msgspec.structs.replace(look(NOW), group="unknown"))
    assert list(history.newest) == ["main"]
    decisions = [Decision("held", "main", NOW + n, "gate") for n in range(MAX_DECISIONS + 50)]
    history.add_decisions(decisions)
    history.add_decisions(decisions[-1:])
    assert history.decision_count == MAX_DECISIONS + 50
    assert history.after(0) == decisions[-MAX_DECISIONS:]
    assert history.after(history.decision_count - 2) == decisions[-2:]
    assert history.after(10**15) == []


# --- the answers ---


def test_no_status_and_too_few_examples_are_reported_as_unknown() -> None:
    assert {answer.tone for answer in answers_for()} == {"unknown"}
    assert all(answer.words.startswith("Not known") for answer in answers_for(stratum("group", VerdictKind.TOO_LITTLE)))


def test_a_stable_system_reports_it_and_what_it_cannot_judge() -> None:
    drift, handled, broken = answers_for(
        stratum("group", VerdictKind.STABLE), stratum("scene=a", VerdictKind.TOO_LITTLE)
    )
    assert drift.words == "No. Nothing drifts in the 1 strata that can be judged; 1 more have too few examples."
    assert "0.550 live against 0.600 frozen" in handled.words
    assert {drift.tone, handled.tone, broken.tone} == {"good"}


def test_drift_is_reported_with_its_domain_and_begin_across_changes_of_cause() -> None:
    history = StatusHistory(("main",))
    tell(history, NOW)
    drift = answers([history.newest["main"]], [KERNEL], [], history.decisions, NOW, shown_since=None)[0]
    assert drift.words == "Yes, in scene=home."
    assert drift.since == pytest.approx(NOW - (240 - NAMED) * EVERY_S)
    assert BEGINS < NAMED
    assert any(decision.kind == VERDICT for decision in changes(NOW))


def test_drift_of_many_domains_names_the_oldest_three() -> None:
    names = ["group", *(f"region={n}" for n in range(5))]
    drift, handled, _ = answers_for(*(stratum(name, VerdictKind.UNHANDLED) for name in names))
    assert drift.words == "Yes, in region=0, in region=1, in region=2 and in 2 more."
    assert (drift.tone, handled.tone) == ("bad", "bad")
    assert handled.words.startswith("Not yet in region=0")


def test_of_several_domains_the_first_is_named_and_the_figures_say_whose_they_are() -> None:
    south = msgspec.structs.replace(stratum("region=south", VerdictKind.HANDLED), since=NOW - 50)
    search = msgspec.structs.replace(stratum("scene=search", VerdictKind.HANDLED), since=NOW - 90)
    drift, handled, _ = answers_for(south, search)
    assert drift.words == "Yes, in scene=search and in region=south. It began in scene=search."
    assert drift.since == NOW - 90
    assert handled.words.startswith("Yes, in scene=search and in region=south. In scene=search log loss is")
    assert handled.since is None, "it is not known since when the drift is handled"


def test_domains_that_share_the_drift_of_their_group_are_not_listed() -> None:
    home = msgspec.structs.replace(stratum("scene=home", VerdictKind.UNHANDLED), evidence={"shares": "group"})
    drift, handled, _ = answers_for(stratum("group", VerdictKind.UNHANDLED), home)
    assert drift.words == "Yes, in the whole group."
    assert handled.words.startswith("Not yet in the whole group")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (VerdictKind.BROKEN_BY_US, "Yes: the kernel does harm in scene=a."),
        (VerdictKind.LABELS, "Yes: labels are faulty in scene=a."),
        (VerdictKind.INPUTS, "Yes: inputs are faulty in scene=a."),
    ],
)
def test_a_harmful_kernel_a_label_fault_and_an_input_fault_are_reported(kind: VerdictKind, words: str) -> None:
    broken = answers_for(stratum("group", VerdictKind.STABLE), stratum("scene=a", kind))[2]
    assert (broken.tone, broken.words) == ("bad", words)


def test_silence_without_traffic_is_not_reported_as_a_fault() -> None:
    calm = stratum("group", VerdictKind.STABLE)
    for shown_since in (None, NOW - 1):
        quiet = answers_for(calm, wall=NOW - 2 * OLD_S, shown_since=shown_since)[2]
        assert quiet.tone == "watch" and "Without traffic that is as it should be" in quiet.words


def test_requests_that_no_status_follows_are_reported_after_a_while_and_a_status_ends_that() -> None:
    backend = FakeBackend()
    clock = [NOW]
    backend.page._now = lambda: clock[0]
    tell(backend.told, NOW)
    clock[0] = NOW + 3_600
    asked = ScoreRequest("196", ["a"])
    assert backend.page.status(0).answers[2].tone == "watch"
    backend.page.asked(asked)
    clock[0] += OLD_S + 1
    backend.page.asked(asked)
    assert backend.page.status(0).answers[2].tone == "bad"
    backend.told.newest["main"] = look(clock[0], stratum("group", VerdictKind.STABLE))
    assert backend.page.status(0).answers[2].tone == "good"


def test_stalled_held_or_refused_kernels_are_reported_as_a_problem() -> None:
    calm = stratum("group", VerdictKind.STABLE)
    still = answers_for(calm, wall=NOW - 2 * OLD_S, shown_since=NOW - OLD_S - 1)[2]
    assert still.tone == "bad" and "Something stands still" in still.words
    assert "holds back" in answers_for(calm, held=True)[2].words
    assert "feedback has not been read" in answers_for(calm, paused=True)[2].words
    assert "stopped the learning" in answers_for(calm, kernel=msgspec.structs.replace(KERNEL, learning=False))[2].words
    assert (
        "an operator froze" in answers_for(calm, kernel=msgspec.structs.replace(KERNEL, frozen=True, by="ann"))[1].words
    )
    refusal = KernelRefusal("main", "far_off", "", NOW - 60)
    refused = answers([look(NOW, calm)], [KERNEL], [refusal], [], NOW, shown_since=None)[2]
    assert (refused.tone, "far_off" in refused.words) == ("watch", True)


def test_handled_and_unhandled_drift_are_reported_with_the_gain() -> None:
    evening = msgspec.structs.replace(stratum("period=evening", VerdictKind.UNHANDLED), evidence={"recovered": 0.18})
    words = answers_for(stratum("scene=search", VerdictKind.HANDLED), evening)[1].words
    assert words.startswith("Not yet in period=evening: it recovers 18% of what the frozen model lost (log loss is")
    assert words.endswith("It does in scene=search.")


def test_an_unknown_gain_is_not_reported() -> None:
    bare = msgspec.structs.replace(stratum("group", VerdictKind.HANDLED), arms={"frozen": ArmStatus(0.5)})
    assert "not known yet" in answers_for(bare)[1].words


@pytest.mark.parametrize("kind", VerdictKind)
def test_the_page_names_and_colours_a_verdict_as_reports_and_dashboards_do(kind: VerdictKind) -> None:
    folder = Path(page.__file__).parent
    names, styles = ((folder / name).read_text(encoding="utf-8") for name in ("words.js", "page.css"))
    shown = APPEARANCES[kind]
    assert f'{kind}: "{shown.name}"' in names
    (variable,) = re.findall(rf"\.v-{kind} {{ background: var\(--(\w+)\); }}", styles)
    light, *_ = re.findall(rf"--{variable}: (#\w+);", styles)
    assert light == shown.colour


# --- the endpoints ---


async def test_the_page_and_its_files_need_no_key_and_are_revalidated_by_etag() -> None:
    async with asgi_client(FakeBackend()) as client:
        index = await client.get("/")
        assert "script-src 'self'" in index.headers["content-security-policy"]
        assert "unsafe" not in index.headers["content-security-policy"]
        for name in ("page.js", "page.css", "plotly.min.js"):
            file = await client.get(f"/page/{name}")
            assert file.headers["x-content-type-options"] == "nosniff"
            again = await client.get(f"/page/{name}", headers={"If-None-Match": file.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            plain = await client.get(f"/page/{name}", headers={"Accept-Encoding": "identity"})
            assert plain.content == file.content
        for name in ("nothing.js", "files.py", "..%2Frun.py"):
            assert (await client.get(f"/page/{name}")).status_code == 404


async def test_the_data_of_the_page_need_a_read_right() -> None:
    key = new_key()
    config = Config(access=AccessConfig(keys=(KeyConfig(name="shop", hash=key_hash(key), may=("score",)),)))
    async with asgi_client(FakeBackend(config)) as client:
        for path in ("/v1/status", "/v1/history"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers={"Authorization": f"Bearer {key}"})).status_code == 403
        order = {"group": "main", "order": "freeze"}
        assert (await client.post("/v1/orders", json=order)).status_code == 401


async def test_a_read_only_key_sees_what_an_operator_sees_and_gives_no_orders() -> None:
    keys = {may: new_key() for may in ("read", "operator")}
    access = AccessConfig(keys=tuple(KeyConfig(name=may, hash=key_hash(key), may=(may,)) for may, key in keys.items()))
    backend = FakeBackend(Config(access=access))
    async with asgi_client(backend) as client:
        for may, key in keys.items():
            header, order = {"Authorization": f"Bearer {key}"}, {"group": "main", "order": "freeze"}
            for path in ("/v1/status", "/v1/history?group=main&stratum=group", "/v1/kernels"):
                assert (await client.get(path, headers=header)).status_code == 200, path
            ordered = await client.post("/v1/orders", json=order, headers=header)
            assert ordered.status_code == {"read": 403, "operator": 202}[may]
            event = {"event": "user", "user_id": "u", "time": 1}
            assert (await client.post("/v1/events", json=event, headers=header)).status_code == 403
    assert len(backend.orders) == 1


async def test_an_order_from_the_page_of_another_site_is_refused() -> None:
    backend, order = FakeBackend(), {"group": "main", "order": "freeze"}
    async with asgi_client(backend) as client:
        for origin in ("https://else.example", "null", "http://scorer:81"):
            answer = await client.post("/v1/orders", json=order, headers={"Origin": origin})
            assert (answer.status_code, answer.json()["error"]) == (403, "other_origin")
        assert backend.orders == []
        answer = await client.post("/v1/orders", json=order, headers={"Origin": "http://scorer"})
        assert (answer.status_code, answer.json()["frozen"]) == (202, True)
        assert answer.json()["by"] == "somebody (no key)"


@pytest.mark.parametrize("order", [{"order": "explode"}, {"order": "pin", "version": 0}, {"order": "pin", "x": 1}])
async def test_an_invalid_order_is_refused_with_the_location_of_the_error(order: dict[str, Any]) -> None:
    async with asgi_client(FakeBackend()) as client:
        answer = await client.post("/v1/orders", json={"group": "main", **order})
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")


async def test_status_and_history_return_only_new_values() -> None:
    backend = FakeBackend()
    tell(backend.told, NOW)
    async with asgi_client(backend) as client:
        first = (await client.get("/v1/status")).json()
        assert first["groups"][0]["group"] == "main" and first["decisions"]
        assert (await client.get(f"/v1/status?after={first['decision_count']}")).json()["decisions"] == []
        past = (await client.get("/v1/history?group=main&stratum=scene=home")).json()
        assert len(past["time"]) == len(past["series"]["live_log_loss"]) == 240
        query = f"group=main&stratum=group&since={past['time'][-3]}"
        assert len((await client.get(f"/v1/history?{query}")).json()["time"]) == 2
        other = await client.get("/v1/history?group=other")
        assert (other.status_code, other.json()["detail"]) == (
            404, "there is no kernel group 'other'; the groups are: main",
        )  # fmt: skip
        for wrong in ("/v1/status?after=x", "/v1/history?group=main&since=inf", "/v1/kernels?last=nan"):
            assert (await client.get(wrong)).status_code == 422
        assert len((await client.get("/v1/kernels?last=0")).json()["swaps"]) == 0


async def test_both_arms_are_returned_if_requested_and_such_a_request_is_not_logged() -> None:
    backend = FakeBackend()
    async with asgi_client(backend) as client:
        body = {"user_id": "u", "candidates": ["a", "b", "c"], "top_k": 2}
        plain = (await client.post("/v1/score", json=body)).json()
        both = (await client.post("/v1/score", json={**body, "user_id": "v", "arms": True})).json()
        assert "arms" not in plain
        assert [item["item_id"] for item in both["arms"]] == [item["item_id"] for item in both["scores"]]
        assert [item["live"] for item in both["arms"]] == [item["score"] for item in both["scores"]]
        assert both["arms"][0]["frozen"] != both["arms"][0]["live"]
        example = (await client.get("/v1/status")).json()["example"]
        assert example["user_id"] == "u"
        assert msgspec.convert(example, ScoreRequest).candidates == ["a", "b", "c"]
