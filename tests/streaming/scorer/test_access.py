"""Keys, rights and rates of callers, over the ASGI transport and as plain classes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import ValidationError
from typer.testing import CliRunner

from driftline.keys import RIGHTS
from driftline.keys import app as key_app
from streaming.config import AccessConfig, Config, ConfigError, load_config
from streaming.config_docs import as_toml
from streaming.events.request_ids import RequestIds
from streaming.scorer.access import AccessControl, CallRate, check_access, key_hash, new_key
from streaming.scorer.schema import RequestRefused
from tests.streaming.scorer.scoring_parts import FakeBackend, asgi_client

SHOP, CRM, EXPIRED = new_key(), new_key(), new_key()
KEYS = [
    {"name": "shop", "hash": key_hash(SHOP), "may": ["score", "feedback"]},
    {"name": "crm", "hash": key_hash(CRM), "may": ["profile", "drift", "impression", "operator"]},
]
ASK = {"user_id": "u", "candidates": ["a", "b"], "domain": {"scene": "home", "period": "day"}}
EVENTS: dict[str, tuple[dict[str, Any], str]] = {
    "feedback": ({"event": "feedback", "request_id": "main.1", "item_id": "a", "time": 1}, "shop"),
    "impression": ({"event": "impression", "request_id": "main.1", "time": 1, "user_id": "u", "items": ["a"]}, "crm"),
    "user": ({"event": "user", "user_id": "u", "time": 1}, "crm"),
    "item": ({"event": "item", "item_id": "i", "time": 1}, "crm"),
    "drift": ({"event": "drift", "name": "sale", "kind": "campaign", "phase": "begins", "time": 1}, "crm"),
}


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _counted(key: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("driftline_http_calls_total", {"key": key, "outcome": outcome}) or 0.0


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(Config.model_validate({"access": {"keys": KEYS}}))


@pytest.fixture
async def client(backend: FakeBackend) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi_client(backend) as client:
        yield client


CALLS = [("POST", "/v1/score", ASK), ("POST", "/v1/events", EVENTS["feedback"][0]), ("GET", "/v1/kernels", None)]
NO_KEY: dict[str, tuple[dict[str, str], str]] = {
    "none": ({}, "no_key"),
    "another": (_bearer(EXPIRED), "unknown_key"),
    "the hash itself": (_bearer(key_hash(SHOP)), "unknown_key"),
    "empty": (_bearer(""), "unknown_key"),
    "another scheme": ({"Authorization": f"Basic {SHOP}"}, "unknown_key"),
    "cut short": (_bearer(SHOP[:-1]), "unknown_key"),
}


@pytest.mark.parametrize("case", NO_KEY)
@pytest.mark.parametrize("call", CALLS)
async def test_without_a_known_key_every_endpoint_refuses(
    client: httpx.AsyncClient, backend: FakeBackend, case: str, call: tuple[str, str, object]
) -> None:
    (method, path, body), (headers, error) = call, NO_KEY[case]
    answer = await client.request(method, path, json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, error)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert backend.events == []


async def test_a_key_grants_exactly_its_rights(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/score", json=ASK, headers=_bearer(SHOP))).status_code == 200
    refused = await client.post("/v1/score", json=ASK, headers=_bearer(CRM))
    assert (refused.status_code, refused.json()["error"]) == (403, "not_allowed")
    assert "'score'" in refused.json()["detail"] and "crm" in refused.json()["detail"]
    assert (await client.get("/v1/kernels", headers=_bearer(CRM))).status_code == 200
    assert (await client.get("/v1/kernels", headers=_bearer(SHOP))).status_code == 403


@pytest.mark.parametrize("kind", EVENTS)
async def test_every_kind_of_event_requires_its_own_right(
    client: httpx.AsyncClient, backend: FakeBackend, kind: str
) -> None:
    event, holder = EVENTS[kind]
    keys = {"shop": SHOP, "crm": CRM}
    answer = await client.post("/v1/events", json=[event], headers=_bearer(keys.pop(holder)))
    assert answer.status_code == (503 if kind == "item" else 202)  # the fake broker takes no items
    (other,) = keys.values()
    backend.events.clear()
    refused = await client.post("/v1/events", json=[event], headers=_bearer(other))
    assert (refused.status_code, refused.json()["error"]) == (403, "not_allowed")
    assert backend.events == []


async def test_a_list_with_one_unauthorised_event_is_refused_completely(
    client: httpx.AsyncClient, backend: FakeBackend
) -> None:
    both = [EVENTS["feedback"][0], EVENTS["user"][0]]
    assert (await client.post("/v1/events", json=both, headers=_bearer(SHOP))).status_code == 403
    assert backend.events == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_health_and_documentation_need_no_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_calls_are_counted_by_the_name_of_the_key_and_never_by_the_key(client: httpx.AsyncClient) -> None:
    names = (("shop", "allowed"), ("shop", "forbidden"), ("(unknown)", "refused"))
    before = [_counted(*pair) for pair in names]
    await client.post("/v1/score", json=ASK, headers=_bearer(SHOP))
    await client.get("/v1/kernels", headers=_bearer(SHOP))
    await client.post("/v1/score", json=ASK, headers=_bearer(EXPIRED))
    assert [_counted(*pair) - was for pair, was in zip(names, before, strict=True)] == [2, 1, 1]


async def test_two_keys_are_valid_at_once_for_rotation() -> None:
    access = AccessControl(AccessConfig.model_validate({"keys": KEYS}), lambda: 0.0)
    assert access.enter(f"Bearer {SHOP}", "a").name == "shop"
    assert access.enter(f"bearer {CRM} ", "a").name == "crm"


@given(st.text(max_size=200))
def test_no_invalid_authorization_header_grants_access_or_raises_an_error(header: str) -> None:
    access = AccessControl(AccessConfig.model_validate({"keys": KEYS}), lambda: 0.0)
    for sent in (header, f"Bearer {header}"):
        with pytest.raises(RequestRefused) as refused:
            access.enter(sent, "a")
        assert refused.value.status == 401


OPEN = ["0.0.0.0", "::", "192.168.1.7", "scorer", ""]


@pytest.mark.parametrize("host", OPEN)
def test_no_keys_on_a_non_loopback_address_is_refused_with_a_remedy(host: str) -> None:
    with pytest.raises(ConfigError, match=r"driftline key new.*DRIFTLINE_ACCESS__KEYS"):
        check_access(Config.model_validate({"scorer": {"host": host}}))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_loopback_no_keys_are_needed(host: str) -> None:
    check_access(Config.model_validate({"scorer": {"host": host}}))


def test_the_check_applies_to_environment_variables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_SCORER__HOST", "0.0.0.0")
    with pytest.raises(ConfigError, match=r"access\.keys is empty"):
        check_access(load_config())
    monkeypatch.setenv("DRIFTLINE_ACCESS__KEYS", f'[{{"name": "shop", "hash": "{key_hash(SHOP)}", "may": ["score"]}}]')
    check_access(load_config())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key in the clear": ({"keys": [{"name": "a", "hash": SHOP, "may": ["score"]}]}, "sha256"),
    "one name twice": ({"keys": [KEYS[0], {**KEYS[1], "name": "shop"}]}, "'shop' is listed twice"),
    "one hash twice": ({"keys": [KEYS[0], {**KEYS[0], "name": "b"}]}, "is listed twice"),
    "an unknown right": ({"keys": [{**KEYS[0], "may": ["all"]}]}, "'operator'"),
    "no right": ({"keys": [{**KEYS[0], "may": []}]}, "at least 1"),
    "a short secret": ({"request_id_secrets": ["short"]}, "driftline key secret"),
    "every id unsigned": ({"unsigned_ids": [""]}, "matches every id"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_access_section_is_refused_without_printing_its_secrets(case: str) -> None:
    access, message = WRONG[case]
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(access=access)
    assert SHOP not in str(refused.value)


def test_signing_secrets_are_never_printed() -> None:
    config = Config.model_validate({"access": {"request_id_secrets": ["s" * 40]}})
    assert "s" * 40 not in as_toml(config) + repr(config)


def test_a_new_key_is_printed_once_and_its_entry_grants_access() -> None:
    made = CliRunner().invoke(key_app, ["new", "shop", "--may", "score, drift"])
    key = re.search(r"dl_\S+", made.stderr)
    assert made.exit_code == 0 and key is not None
    assert key[0] not in made.stdout
    config = Config.model_validate(tomllib.loads(made.stdout))
    assert AccessControl(config.access, lambda: 0.0).enter(f"Bearer {key[0]}", "").rights == {"score", "drift"}


def test_a_key_file_is_readable_by_its_owner_only_and_never_overwritten(tmp_path: Any) -> None:
    path = tmp_path / "shop.key"
    made = CliRunner().invoke(key_app, ["new", "shop", "--key-file", str(path), "--may", ",".join(RIGHTS)])
    assert made.exit_code == 0 and "dl_" not in made.output
    assert path.stat().st_mode & 0o077 == 0
    assert key_hash(path.read_text().strip()) in made.stdout
    again = CliRunner().invoke(key_app, ["new", "shop", "--key-file", str(path)])
    assert isinstance(again.exception, ConfigError) and "exists" in str(again.exception)


def test_a_new_secret_signs_request_ids() -> None:
    secret = CliRunner().invoke(key_app, ["secret"]).stdout.strip()
    config = load_config(access={"request_id_secrets": [secret]})
    assert RequestIds([config.access.request_id_secrets[0].get_secret_value()]).signed


def test_a_rate_limit_allows_one_second_of_burst_and_then_one_call_per_interval() -> None:
    now = 0.0
    rate = CallRate(4, lambda: now)
    assert [rate.wait("a") for _ in range(4)] == [0, 0, 0, 0]
    assert rate.wait("a") == pytest.approx(0.25)
    assert rate.wait("b") == 0
    now = 0.25
    assert rate.wait("a") == 0
    assert rate.wait("a") == pytest.approx(0.25)


def test_a_rate_below_one_per_second_allows_one_call_and_then_waits() -> None:
    rate = CallRate(0.5, lambda: 0.0)
    assert rate.wait("a") == 0
    assert rate.wait("a") == pytest.approx(2.0)


@given(
    st.floats(0.1, 1_000), st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), max_size=200), st.floats(1, 50)
)
def test_nobody_ever_exceeds_its_rate(per_s: float, calls: list[tuple[str, float]], seconds: float) -> None:
    now = 0.0
    rate = CallRate(per_s, lambda: now)
    let_in: dict[str, list[float]] = {}
    for caller, later in calls:
        now += later
        if not rate.wait(caller):
            let_in.setdefault(caller, []).append(now)
    for times in let_in.values():
        for begin in times:
            within = sum(begin <= time < begin + seconds for time in times)
            assert within <= per_s * seconds + max(1.0, per_s) + 1


async def test_a_rate_limited_caller_gets_a_retry_time_and_others_are_not_delayed() -> None:
    access = {"keys": [{**key, "may": ["score"]} for key in KEYS], "requests_per_s": 2}
    async with asgi_client(FakeBackend(Config.model_validate({"access": access}))) as client:
        mine = [await client.post("/v1/score", json=ASK, headers=_bearer(SHOP)) for _ in range(4)]
        other = await client.post("/v1/score", json=ASK, headers=_bearer(CRM))
    assert [answer.status_code for answer in mine][:2] == [200, 200]
    limited = [answer for answer in mine if answer.status_code == 429]
    assert limited and limited[0].json()["error"] == "too_many_requests"
    assert limited[0].headers["retry-after"] == "1"
    assert other.status_code == 200


async def test_unauthenticated_callers_are_rate_limited_by_address() -> None:
    access = AccessControl(AccessConfig.model_validate({"keys": KEYS, "requests_per_s": 1}), lambda: 0.0)
    statuses = []
    for address in ("a", "a", "b"):
        with pytest.raises(RequestRefused) as refused:
            access.enter("Bearer guess", address)
        statuses.append(refused.value.status)
    assert statuses == [401, 429, 401]
    assert access.enter(f"Bearer {SHOP}", "a").name == "shop"


def test_no_key_can_have_the_metric_name_of_unauthenticated_callers() -> None:
    with pytest.raises(ValidationError):
        AccessConfig.model_validate({"keys": [{"name": "(unknown)", "hash": key_hash("x"), "may": ["score"]}]})


def test_an_environment_variable_with_invalid_json_is_refused_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_ACCESS__KEYS", "shop")
    with pytest.raises(ConfigError, match=r'"may": \["score", "feedback"\]'):
        load_config()
