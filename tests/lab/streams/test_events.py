"""Every kind of event changes what its definition names, for the users it names, from the time it names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lab.streams import ScriptedStream, StreamError
from tests.lab.streams.worlds import positions, stream, whole


def shift(events: str, **keys: Any) -> tuple[ScriptedStream, np.ndarray, np.ndarray, np.ndarray]:
    """How far each request's true probabilities are from those of the same stream without events."""
    drifting, still = stream(events, **keys), stream(**keys)
    chunk, base = whole(drifting), whole(still)
    assert np.array_equal(chunk.items, base.items)
    away = np.abs(chunk.probability - base.probability).mean(axis=1)
    return drifting, positions(drifting, chunk), away, chunk.domain


def test_an_abrupt_taste_changes_at_once_and_stays() -> None:
    _, at, away, _ = shift("[{kind: taste, at: 0.4}]")
    assert away[at < 0.4].max() == 0
    assert away[at >= 0.4].min() > 0
    assert away[at >= 0.4].mean() > 0.1


def test_an_event_with_an_end_restores_the_earlier_distribution() -> None:
    source, at, away, _ = shift("[{kind: taste, at: 0.4, until: 0.6}]")
    assert away[(at < 0.4) | (at >= 0.6)].max() == 0
    assert away[(at >= 0.4) & (at < 0.6)].min() > 0
    (span,) = source.drift_spans
    assert span.returns
    assert source.clock.position(np.array([span.start, span.end])) == pytest.approx([0.4, 0.6])


def test_a_gradual_taste_grows_over_its_ramp() -> None:
    source, at, away, _ = shift("[{kind: taste, at: 0.2, shape: gradual, ramp: 0.6}]")
    early, middle, late = (away[(at >= a) & (at < a + 0.1)].mean() for a in (0.2, 0.45, 0.85))
    assert away[at < 0.2].max() == 0
    assert 0 < early < 0.5 * middle < middle < late
    assert source.clock.position(np.array([source.drift_spans[0].full])) == pytest.approx([0.8])


def test_a_recurring_taste_alternates_and_is_the_same_each_time() -> None:
    events = "[{kind: taste, at: 0.2, until: 0.95, shape: recurring, cycle: 0.4, duty: 0.5}]"
    source, at, away, _ = shift(events)
    on = ((at >= 0.2) & (at < 0.4)) | ((at >= 0.6) & (at < 0.8))
    assert away[on].min() > 0
    assert away[~on].max() == 0
    assert [span.returns for span in source.drift_spans] == [True, True]
    assert away[on & (at < 0.5)].mean() == pytest.approx(away[on & (at > 0.5)].mean(), rel=0.1)


def test_the_strength_of_a_taste_is_how_far_it_moves() -> None:
    weak, strong = (shift(f"[{{kind: taste, at: 0, strength: {s}}}]")[2].mean() for s in (0.3, 1.0))
    assert 0 < weak < 0.6 * strong


@pytest.mark.parametrize(("facet", "value"), [("scene", "search"), ("region", "south"), ("period", "evening")])
def test_a_taste_of_one_domain_changes_only_that_domain(facet: str, value: str) -> None:
    domains = "{scene: {home: 0.6, search: 0.4}, region: {north: 0.5, south: 0.5}}"
    source, at, away, domain = shift(f"[{{kind: taste, at: 0.3, where: {{{facet}: [{value}]}}}}]", domains=domains)
    column = ("scene", "region", "period").index(facet)
    there = domain[:, column] == source.catalogue.space.values[facet].index(value)
    assert away[there & (at >= 0.3)].min() > 0
    assert away[~there | (at < 0.3)].max() == 0
    assert source.drift_spans[0].domain == {facet: (value,)}


def test_a_taste_of_some_users_changes_only_those_users() -> None:
    source, at, away, _ = shift("[{kind: taste, at: 0.3, who: {fields: {gender: [F]}}}]")
    women = np.array([user.fields["gender"] == "F" for user in source.catalogue.users])
    hit = women[whole(source).user]
    assert away[hit & (at >= 0.3)].min() > 0
    assert away[~hit].max() == 0
    share = shift("[{kind: taste, at: 0, who: {share: 0.5}}]")[2]
    assert (share > 0).mean() == pytest.approx(0.5, abs=0.1)
    source, _, away, _ = shift("[{kind: taste, at: 0, who: {communities: [2]}}]")
    assert np.array_equal(away > 0, source.world.community[whole(source).user] == 2)


def test_a_popularity_event_shows_and_clicks_its_items_more() -> None:
    source = stream("[{kind: popularity, at: 0.5, items: 0.05, boost: 5, lift: 2}]", requests=10_000)
    chunk = whole(source)
    after = np.asarray(positions(source, chunk) >= 0.5)
    fashion = np.asarray(source._plans[0].items[chunk.items])
    assert fashion[after].mean() > 2.5 * fashion[~after].mean()
    clicked = [chunk.clean_click[part][fashion[part]].mean() for part in (~after, after)]
    assert clicked[1] > clicked[0] + 0.15


def test_new_items_are_never_shown_before_their_event() -> None:
    source = stream("[{kind: new_items, at: 0.5, items: 0.3, boost: 3}]")
    chunk = whole(source)
    new = np.asarray(source._plans[0].items[chunk.items].any(axis=1))
    after = positions(source, chunk) >= 0.5
    assert not new[~after].any()
    assert new[after].mean() > 0.5
    assert not source._plans[0].items[whole(source, "pretrain").items].any()


def test_new_users_appear_only_after_their_event_and_then_with_their_share() -> None:
    source = stream("[{kind: new_users, at: 0.5, users: 0.3, traffic: 0.6}]", requests=10_000)
    chunk = whole(source)
    known = np.isin(chunk.user, whole(source, "pretrain").user)
    after = positions(source, chunk) >= 0.5
    late = ~np.isin(chunk.user, chunk.user[~after]) & ~known
    assert late[after].mean() == pytest.approx(0.6, abs=0.06)


def test_a_new_domain_begins_at_its_event_with_its_share_and_taste() -> None:
    source = stream("[{kind: new_domain, at: 0.4, facet: scene, value: shorts, traffic: 0.3}]", requests=10_000)
    chunk = whole(source)
    index = source.catalogue.space.values["scene"].index("shorts")
    there, after = chunk.domain[:, 0] == index, positions(source, chunk) >= 0.4
    assert not there[~after].any()
    assert there[after].mean() == pytest.approx(0.3, abs=0.04)
    assert not (whole(source, "pretrain").domain[:, 0] == index).any()


def test_a_label_delay_event_changes_delays_and_nothing_else() -> None:
    source = stream("[{kind: label_delay, at: 0.5, mean_s: 600}]")
    chunk, base = whole(source), whole(stream())
    after = positions(source, chunk) >= 0.5
    assert chunk.delay[~after].mean() == pytest.approx(5, rel=0.1)
    assert chunk.delay[after].mean() == pytest.approx(600, rel=0.1)
    assert np.array_equal(chunk.probability, base.probability)
    assert np.array_equal(chunk.click, base.click)


@pytest.mark.parametrize("how", ["flip", "lost", "fake"])
def test_corrupted_labels_leave_the_true_labels_unchanged(how: str) -> None:
    source = stream(f"[{{kind: corrupted_labels, at: 0.3, until: 0.6, share: 0.4, how: {how}}}]")
    chunk, base = whole(source), whole(stream())
    at = positions(source, chunk)
    inside = (at >= 0.3) & (at < 0.6)
    wrong = chunk.click != chunk.clean_click
    assert np.array_equal(chunk.clean_click, base.click)
    assert not wrong[~inside].any()
    clicked = chunk.clean_click[inside]
    expected = {"flip": 0.4, "lost": 0.4 * clicked.mean(), "fake": 0.4 * (~clicked).mean()}[how]
    assert wrong[inside].mean() == pytest.approx(expected, abs=0.02)
    if how != "flip":
        assert not wrong[inside][clicked if how == "fake" else ~clicked].any()


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ("[{kind: taste, at: 0.1, who: {communities: [99]}}]", "no community 99; there are 0 to 7"),
        (
            "[{kind: taste, at: 0.1, who: {fields: {shoe: ['42']}}}]",
            "users have no field 'shoe'; there are age, gender",
        ),
        ("[{kind: taste, at: 0.1, who: {fields: {gender: [f]}}}]", "concerns no user: nobody has gender: f"),
        ("[{kind: popularity, at: 0.1, genres: [Opera]}]", "picks no item"),
        ("[{kind: new_users, at: 0.1, users: 1}]", "holds every user back"),
    ],
)
def test_an_event_that_matches_nothing_is_refused_by_name(events: str, says: str) -> None:
    with pytest.raises(StreamError, match=says):
        stream(events)
