"""Request ids: only what a scorer gave can be clicked, and what others give only where it is configured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streaming.config import Config, group_of_request
from streaming.events import FeedbackEvent, ImpressionEvent, RefusedError
from streaming.events.request_ids import RequestIds
from streaming.events.rules import MAX_ID, EventRules

NOW = 1_800_000_000.0
OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 32
GROUPS = st.from_regex(r"[a-z0-9_-]{1,40}", fullmatch=True)


@given(GROUPS)
def test_an_id_names_its_group_is_bounded_and_is_verified_by_every_active_secret(group: str) -> None:
    given_id = RequestIds([OLD]).new(group)
    assert group_of_request(given_id) == group
    assert len(given_id) == len(group) + 65 <= MAX_ID
    assert RequestIds([NEW, OLD]).ours(given_id)
    assert not RequestIds([NEW, OTHER]).ours(given_id)


@given(GROUPS, st.data())
def test_a_modified_id_fails_verification(group: str, data: st.DataObject) -> None:
    ids = RequestIds([OLD])
    given_id = ids.new(group)
    where = data.draw(st.integers(0, len(given_id) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda other: other != given_id[where]))
    assert not ids.ours(given_id[:where] + letter + given_id[where + 1 :])


@given(st.text(max_size=600))
def test_arbitrary_text_fails_verification_without_an_error(text: str) -> None:
    assert not RequestIds([OLD]).ours(text)
    assert RequestIds().ours(text)


def test_two_ids_of_one_group_differ() -> None:
    ids = RequestIds([OLD])
    assert len({ids.new("main") for _ in range(100)}) == 100


def _refused(config: Config, event: FeedbackEvent | ImpressionEvent) -> str | None:
    try:
        EventRules(config).check(event, NOW)
    except RefusedError as refused:
        return refused.reason
    return None


SIGNED = Config.model_validate({"access": {"request_id_secrets": [NEW, OLD], "unsigned_ids": ["main.shop-"]}})


def test_feedback_is_accepted_for_ids_signed_before_or_after_a_secret_rotation() -> None:
    for secret in (OLD, NEW):
        assert _refused(SIGNED, FeedbackEvent(RequestIds([secret]).new("main"), "i", NOW)) is None


def test_feedback_with_a_forged_id_is_refused_with_the_reason() -> None:
    for made_up in ("main.1", "main." + "0" * 64, RequestIds([OTHER]).new("main")):
        assert _refused(SIGNED, FeedbackEvent(made_up, "i", NOW)) == "unsigned"


def test_unsigned_ids_are_accepted_with_a_configured_prefix() -> None:
    assert _refused(SIGNED, ImpressionEvent("main.shop-7", NOW, "u", ["i"])) is None
    assert _refused(SIGNED, FeedbackEvent("main.shop-7", "i", NOW)) is None
    assert _refused(SIGNED, ImpressionEvent("main.else-7", NOW, "u", ["i"])) == "unsigned"


def test_an_external_impression_with_a_signed_id_is_refused() -> None:
    assert _refused(SIGNED, ImpressionEvent(RequestIds([NEW]).new("main"), NOW, "u", ["i"])) == "unsigned"


def test_without_secrets_every_id_is_accepted() -> None:
    assert _refused(Config(), FeedbackEvent("main.1", "i", NOW)) is None
    assert _refused(Config(), ImpressionEvent("main.1", NOW, "u", ["i"])) is None
