"""Conversions follow clicks: in scripts, in logs with a mapping, and in MovieLens where favourites count as such."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.streams import Chunk, Stream, StreamError, conversion_suite, ensure_conversions, find_script
from lab.streams.logged.logs import LoggedStream, open_log
from lab.streams.logged.movielens import MovieLens
from lab.streams.logged.movielens_stream import movielens_favourites, movielens_stream
from lab.streams.recording import Recording
from tests.lab.streams.worlds import REAL, stream, whole

SHOP = "{rate: 0.2, delay_s: 300}"
LOST = "[{kind: corrupted_labels, at: 0.0, share: 0.5, how: lost}]"


def everything(source: Stream) -> Chunk:
    return Chunk.concat([*source.chunks("pretrain"), *source.chunks("live")])


# --- scripts ---


def test_a_script_without_the_key_has_no_conversions() -> None:
    source = stream(requests=50)
    assert not source.converts
    assert whole(source).conversions is None and whole(source).converted is None


def test_conversions_change_nothing_else_in_a_stream() -> None:
    plain, converting = whole(stream()), whole(stream(conversions=SHOP))
    for column in fields(Chunk):
        if column.name != "conversions":
            np.testing.assert_array_equal(getattr(plain, column.name), getattr(converting, column.name))


def test_only_what_was_clicked_converts_at_the_scripts_rate_and_delay() -> None:
    chunk = whole(stream(conversions=SHOP))
    assert chunk.conversions is not None
    happened = chunk.conversions.happened
    assert not (happened & ~chunk.clean_click).any()
    assert happened.sum() / chunk.clean_click.sum() == pytest.approx(0.2, abs=0.02)
    assert chunk.conversions.delay.mean() == pytest.approx(300, rel=0.05)


def test_conversions_are_not_predicted_by_the_click_probability() -> None:
    chunk = whole(stream(conversions=SHOP))
    assert chunk.conversions is not None
    both = np.corrcoef(chunk.probability.ravel(), chunk.conversions.probability.ravel())[0, 1]
    assert abs(both) < 0.3
    assert chunk.conversions.probability.std() > 0.1


def test_conversions_are_the_same_whatever_the_chunk_size() -> None:
    one, other = (whole(stream(conversions=SHOP), requests=size).conversions for size in (4_096, 700))
    assert one is not None and other is not None
    for column in fields(one):
        np.testing.assert_array_equal(getattr(one, column.name), getattr(other, column.name))


def test_a_conversion_without_a_logged_click_is_not_logged() -> None:
    chunk = whole(stream(LOST, conversions=SHOP))
    assert chunk.conversions is not None and chunk.converted is not None
    assert not (chunk.converted & ~chunk.click).any()
    assert 0.3 < chunk.converted.sum() / chunk.conversions.happened.sum() < 0.7


def test_the_shipped_script_converts() -> None:
    (name,) = conversion_suite()
    source = type(stream(requests=10))(find_script(name).model_copy(update={"pretrain_requests": 200}), REAL)
    converted = whole(source, "pretrain").converted
    assert converted is not None and converted.any()


# --- logs ---

LOG = """who,what,ts,click,bought,paid_at
a,x,1000000,1,yes,1000060
b,y,1000010,0,no,
a,y,1000020,1,no,
a,z,1009000,0,yes,1009001
b,x,1009100,1,yes,1009400
c,z,1009200,1,no,
"""
MAPPING = "name: shop\ninteractions: {{path: log.csv, user: who, item: what, time: ts, label: click{more}}}\n{rest}"


def opened(folder: Path, conversion: str, log: str = LOG, rest: str = "") -> LoggedStream:
    more = f", conversion: {conversion}" if conversion else ""
    (folder / "map.yaml").write_text(MAPPING.format(more=more, rest=rest))
    (folder / "log.csv").write_text(log)
    return open_log(folder / "map.yaml")


def converted_items(source: LoggedStream) -> dict[tuple[str, str], float]:
    chunk, catalogue = everything(source), source.catalogue
    assert chunk.conversions is not None
    return {
        (catalogue.users[chunk.user[row]].user_id, catalogue.items[chunk.items[row, column]].item_id): float(
            chunk.conversions.delay[row, column]
        )
        for row, column in np.argwhere(chunk.conversions.happened)
    }


@pytest.mark.parametrize(
    ("conversion", "delays"),
    [
        ("{column: bought, among: ['yes']}", (0.0, 0.0)),
        ("{column: bought, among: ['yes'], time: paid_at}", (60.0, 300.0)),
        ("{time: paid_at}", (60.0, 300.0)),
    ],
)
def test_a_mapping_names_the_conversions_and_their_times(
    conversion: str, delays: tuple[float, float], tmp_path: Path
) -> None:
    found = converted_items(opened(tmp_path, conversion))
    assert found == {("a", "x"): delays[0], ("b", "x"): delays[1]}


def test_conversions_without_a_click_are_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        opened(tmp_path, "{time: paid_at}")
    assert "1 conversions on rows that are no click do not count" in caplog.text


def test_a_log_without_the_key_has_no_conversions(tmp_path: Path) -> None:
    source = opened(tmp_path, "")
    assert not source.converts and everything(source).conversions is None


def test_sampled_negatives_leave_the_conversion_with_its_click(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n},{1_000_000 + n},1,{'yes' if n % 3 == 0 else 'no'}," for n in range(60)]
    log = "\n".join([LOG.split("\n", maxsplit=1)[0], *rows])
    rest = "negatives: {per_click: 4}"
    found = converted_items(opened(tmp_path, "{column: bought, among: ['yes']}", log, rest))
    assert set(found) == {(f"u{n % 7}", f"i{n}") for n in range(0, 60, 3)}


WRONG = {
    "no such column": ("sold", LOG, r"no column 'sold' for conversion"),
    "neither column nor time": ("{}", LOG, "needs the column"),
    "not 0 or 1": ("bought_for", LOG.replace("bought", "bought_for").replace("no,", "7,"), "at_least or among to conv"),
    "an unknown key": ("{columm: bought}", LOG, "columm"),
    "no click converts": ("{column: bought, among: [maybe]}", LOG, "no click is a conversion"),
    "every click converts": ("{column: click}", LOG, "every click is a conversion"),
    "before its click": ("{time: paid_at}", LOG.replace("1009400", "1009000"), "row 5: 100 s before the interaction"),
    "a time that is none": ("{time: paid_at}", LOG.replace("1009400", "soon"), "row 5: cannot read 'soon'"),
    "another unit": ("{time: {column: paid_at, unit: ms}}", LOG, "before the interaction|1970"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_rule_is_refused_with_the_reason(fault: str, tmp_path: Path) -> None:
    conversion, log, says = WRONG[fault]
    with pytest.raises(StreamError, match=says):
        opened(tmp_path, conversion, log)


# --- MovieLens ---


def test_favourites_convert_ratings_of_five_stars_and_change_nothing_else(movielens: MovieLens) -> None:
    plain, source = movielens_stream(movielens), movielens_favourites(movielens)
    best = {(rating.user_id, rating.item_id) for rating in movielens.ratings if rating.rating == 5}
    assert set(converted_items(source)) == best
    assert source.pretraining().converted is not None
    np.testing.assert_array_equal(everything(source).click, everything(plain).click)
    np.testing.assert_array_equal(source.pretraining().time, plain.pretraining().time)


# --- what a backbone is trained on ---


def test_examples_hold_the_logged_conversions() -> None:
    made = Recording(stream(LOST, requests=50, pretrain_requests=60, users=20, conversions=SHOP), "Script test")
    chunk, examples = made.stream.pretraining(), made.examples(made.catalogue.space)
    assert examples.conversion is not None and chunk.converted is not None
    assert np.array_equal(examples.conversion.reshape(chunk.items.shape) > 0, chunk.converted)


def test_conversions_change_the_key_of_the_backbone() -> None:
    short: dict[str, Any] = {"requests": 50, "pretrain_requests": 60, "users": 20}
    plain, converting = (
        b"".join(Recording(stream(**short, **keys), "Script test").identity()) for keys in ({}, {"conversions": SHOP})
    )
    assert converting.startswith(plain) and converting != plain


def test_a_stream_without_conversions_refuses_the_task_by_its_key() -> None:
    ensure_conversions("ctr_ctcvr", stream(requests=50, conversions=SHOP))
    ensure_conversions("ctr", stream(requests=50))
    with pytest.raises(StreamError, match=r"backbone\.tasks .* stream test knows of no conversions"):
        ensure_conversions("ctr_ctcvr", stream(requests=50))
