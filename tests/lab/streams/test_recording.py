"""Any stream as a recording to pretrain on and to play."""

from __future__ import annotations

import hashlib

import numpy as np

from features.profiles import ItemProfile, UserProfile
from lab.streams.logged.movielens import REGIONS, MovieLens, Rating
from lab.streams.logged.movielens_stream import movielens_stream
from lab.streams.recording import Recording
from lab.streams.request import Request
from model.encoding.domain import Domain, DomainSpace
from tests.lab.streams.worlds import stream, whole

SHORT = {"requests": 60, "pretrain_requests": 80, "users": 30}
TASTE = "[{kind: taste, at: 0.5}]"


def recording(events: str = "[]", **keys: object) -> Recording:
    return Recording(stream(events, **(SHORT | keys)), "Script test")


def digest(made: Recording) -> str:
    return hashlib.sha256(b"".join(made.identity())).hexdigest()


def test_the_examples_are_the_shown_items_of_the_first_half_with_their_logged_labels() -> None:
    made = recording()
    chunk = whole(stream("[]", **SHORT), "pretrain")
    examples = made.examples(made.catalogue.space)
    assert len(examples) == chunk.shown.sum()
    assert np.array_equal(examples.item.reshape(chunk.items.shape), chunk.items)
    assert np.array_equal(examples.label.reshape(chunk.click.shape) > 0, chunk.click)
    assert np.array_equal(examples.user, np.repeat(chunk.user, chunk.items.shape[1]))
    assert np.array_equal(examples.domain[:: chunk.items.shape[1]], chunk.domain)


def test_domains_use_the_indices_of_the_configuration() -> None:
    made = recording()
    own = made.catalogue.space
    other = DomainSpace({facet: ("elsewhere", *reversed(values[1:])) for facet, values in own.values.items()})
    before, after = made.examples(own).domain, made.examples(other).domain
    assert [own.decode(row) for row in before] == [other.decode(row) for row in after]
    assert not np.array_equal(before, after)


def test_the_identity_of_a_recording_depends_on_the_first_half_only() -> None:
    assert digest(recording(TASTE)) == digest(recording())
    assert len({digest(recording()), digest(recording(seed=1)), digest(recording(pretrain_requests=90))}) == 3


def test_the_live_half_keeps_delays_spans_and_order() -> None:
    made = recording(TASTE)
    live = made.requests("live")
    assert len(live) == 60
    assert [request.time for request in live] == sorted(request.time for request in live)
    assert all(len(request.delays) == len(request.items) and min(request.delays) >= 0 for request in live)
    assert [span.kind for span in made.drift_spans] == ["taste"]


def test_requests_record_which_clicks_convert_and_after_how_long() -> None:
    made = recording(conversions="{rate: 0.5, delay_s: 100}")
    chunk, live = whole(stream("[]", conversions="{rate: 0.5, delay_s: 100}", **SHORT)), made.requests("live")
    assert chunk.conversions is not None
    converted = [[delay is not None for delay in request.conversions] for request in live]
    assert np.array_equal(converted, chunk.conversions.happened)
    assert all(request.conversions == () for request in recording().requests("live"))


def test_a_conversion_follows_its_click() -> None:
    shown = Request(0.0, "u", Domain(), ("a", "b", "c"), (True, False, True), (9.0, 0.0, 3.0), (0.0, None, 20.0))
    assert shown.feedback() == [
        (3.0, "c", "click"), (9.0, "a", "click"), (9.0, "a", "conversion"), (23.0, "c", "conversion"),
    ]  # fmt: skip
    without = Request(0.0, "u", Domain(), ("a", "b"), (True, False), (9.0, 0.0))
    assert without.feedback() == [(9.0, "a", "click")]


def test_clicks_are_ordered_by_delay_and_without_delays_by_item() -> None:
    shown = Request(0.0, "u", Domain(), ("a", "b", "c"), (True, False, True), (9.0, 0.0, 3.0))
    assert shown.clicked() == [(3.0, "c"), (9.0, "a")]
    assert Request(0.0, "u", Domain(), ("c", "b", "a"), (True, True, True)).clicked() == [
        (0.0, "c"), (0.0, "b"), (0.0, "a"),
    ]  # fmt: skip


def test_movielens_examples_have_the_times_of_their_ratings() -> None:
    ratings = [Rating(20_000.0 * n, f"u{n % 2}", f"i{n}", float(n % 6)) for n in range(8)]
    data = MovieLens(
        users=[UserProfile("u0", 0.0), UserProfile("u1", 0.0)],
        items=[ItemProfile(f"i{n}", 0.0) for n in range(8)],
        ratings=ratings,
        regions={"u0": "zip1"},
    )
    space = DomainSpace({"scene": ("home",), "region": ("zip1", "other"), "period": ("night", "morning", "afternoon")})
    made = Recording(movielens_stream(data), "MovieLens 100K")
    examples = made.examples(space)
    assert examples.time.tolist() == [0.0, 20_000.0, 40_000.0, 60_000.0]
    assert examples.label.tolist() == [0, 0, 0, 0]
    assert [space.decode(row).key for row in examples.domain] == [
        "home/zip1/night", "home/other/night", "home/zip1/morning", "home/other/afternoon",
    ]  # fmt: skip
    assert made.drift_spans == ()
    assert made.catalogue.space.values["region"][1:] == REGIONS
