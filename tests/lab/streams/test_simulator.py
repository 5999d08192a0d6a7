"""The click model against its own ground truth."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from lab.streams import Chunk, oracle_auc, oracle_log_loss, requests, standard_suite, unmatched_suite
from lab.streams.scripted.simulator import BLOCK
from tests.lab.streams.worlds import REAL, positions, script, stream, whole


def empirical_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    order = np.argsort(scores, kind="stable")
    rank = np.empty(len(scores))
    rank[order] = np.arange(1, len(scores) + 1)
    positive = labels.sum()
    return float((rank[labels].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive)))


def same(a: Chunk, b: Chunk) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Chunk))


def test_an_oracle_scorer_reaches_the_auc_that_the_probabilities_promise() -> None:
    chunk = whole(stream())
    promised = oracle_auc(chunk.probability)
    reached = empirical_auc(chunk.clean_click.ravel(), chunk.probability.ravel())
    assert 0.65 < promised < 0.95
    assert reached == pytest.approx(promised, abs=0.01)


def test_an_oracle_scorer_is_calibrated_and_reaches_the_promised_log_loss() -> None:
    chunk = whole(stream())
    p, y = chunk.probability.astype(np.float64), chunk.clean_click
    assert y.mean() == pytest.approx(p.mean(), abs=0.01)
    assert np.mean(-np.where(y, np.log(p), np.log1p(-p))) == pytest.approx(oracle_log_loss(p), rel=0.02)


def test_the_oracle_auc_of_known_cases_is_right() -> None:
    assert oracle_auc(np.array([0.0, 1.0], dtype=np.float32)) == 1.0
    assert oracle_auc(np.full(10, 0.3, dtype=np.float32)) == pytest.approx(0.5)
    assert np.isnan(oracle_auc(np.zeros(4, dtype=np.float32)))
    assert np.isnan(oracle_auc(np.zeros(0, dtype=np.float32)))


def test_the_click_rate_before_drift_is_the_configured_one() -> None:
    for rate in (0.05, 0.4):
        assert whole(stream(base_ctr=rate), "pretrain").clean_click.mean() == pytest.approx(rate, abs=0.02)


def test_a_stream_without_drift_shows_none() -> None:
    source = stream()
    chunk = whole(source)
    parts = np.array_split(np.arange(len(chunk)), 5)
    rates = [chunk.clean_click[p].mean() for p in parts]
    aucs = [oracle_auc(chunk.probability[p]) for p in parts]
    assert source.drift_spans == ()
    assert np.ptp(rates) < 0.03
    assert np.ptp(aucs) < 0.03
    assert np.array_equal(chunk.click, chunk.clean_click)
    alike = stream("[{kind: taste, at: 0.99, strength: 0.01}]")
    early = positions(source, chunk) < 0.99
    assert np.array_equal(whole(alike).probability[early], chunk.probability[early])


def test_the_same_seed_gives_the_same_stream_and_another_seed_another() -> None:
    drift = "[{kind: taste, at: 0.5}, {kind: new_items, at: 0.3}]"
    first, again, other = (whole(stream(drift, seed=s)) for s in (3, 3, 4))
    assert same(first, again)
    assert not np.array_equal(first.items, other.items)


@pytest.mark.parametrize("size", [1, 777, BLOCK, 100_000])
def test_the_chunk_size_does_not_matter(size: int) -> None:
    source = stream("[{kind: taste, at: 0.5, shape: gradual}]", requests=2_500)
    assert same(whole(source, requests=size), whole(source, requests=600))
    lengths = [len(chunk) for chunk in source.chunks("live", size)]
    assert sum(lengths) == source.size("live") == 2_500
    assert set(lengths[:-1]) <= {size}


def test_a_chunk_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one request"):
        next(stream(requests=100).chunks("live", 0))


def test_times_rise_and_the_halves_do_not_overlap() -> None:
    source = stream()
    before, after = whole(source, "pretrain"), whole(source)
    for chunk in (before, after):
        assert (np.diff(chunk.time) >= 0).all()
    assert before.time[-1] < source.clock.start <= after.time[0]
    assert after.time[-1] < source.clock.time(1.0)


def test_no_item_is_shown_twice_in_a_request_and_sessions_of_users_overlap() -> None:
    chunk = whole(stream())
    assert (np.diff(np.sort(chunk.items, axis=1), axis=1) > 0).all()
    assert len(np.unique(chunk.user[:500])) > 100


def test_the_period_of_a_request_is_that_of_its_hour() -> None:
    source = stream()
    chunk = whole(source)
    hour = (chunk.time % 86_400) // 3_600
    names = np.array(source.catalogue.space.values["period"])[chunk.domain[:, 2]]
    assert set(names[hour < 6]) == {"night"}
    assert set(names[(hour >= 18)]) == {"evening"}


def test_user_fields_are_informative_about_communities() -> None:
    source = stream(users=4_000)
    gender = np.array([user.fields["gender"] == "F" for user in source.catalogue.users])
    shares = [gender[source.world.community == c].mean() for c in range(8)]
    assert np.ptp(shares) > 0.1


def test_a_request_by_names_is_the_request_by_positions() -> None:
    source = stream(requests=50)
    chunk = whole(source)
    named = list(requests(source, "live"))
    assert len(named) == 50
    assert named[7].user_id == source.catalogue.users[chunk.user[7]].user_id
    assert named[7].items == tuple(source.catalogue.items[i].item_id for i in chunk.items[7])
    assert named[7].clicks == tuple(chunk.click[7])
    assert source.catalogue.space.encode_many([]).shape == (0, 3)


def test_too_few_items_are_refused() -> None:
    with pytest.raises(ValueError, match="too few to show"):
        stream(shown=100)


SHIPPED = standard_suite() | unmatched_suite()


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_shipped_script_makes_a_stream(name: str) -> None:
    shipped = SHIPPED[name]
    source = type(stream(requests=10))(shipped.model_copy(update={"requests": 400, "pretrain_requests": 200}), REAL)
    chunk = whole(source)
    assert len(chunk) == 400
    assert np.isfinite(chunk.probability).all()
    assert bool(source.drift_spans) == (name != "no-drift")


def test_the_script_helper_reads_the_same_as_a_file() -> None:
    assert script(seed=9).seed == 9
