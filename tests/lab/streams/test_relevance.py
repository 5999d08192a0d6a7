"""Judgements of relevance: those that a script makes, those that a log has, and streams without."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.streams import Chunk, ScriptedStream, StreamError, ensure_relevance, find_script
from lab.streams.logged.logs import LoggedStream, open_log
from lab.streams.logged.movielens import MovieLens
from lab.streams.logged.movielens_stream import movielens_search
from lab.streams.recording import Recording
from model.config import NO_QUERY
from tests.lab.streams.worlds import GENRES, stream, whole

SHORT: dict[str, Any] = {"requests": 400, "pretrain_requests": 60, "users": 40}


def searching(**keys: float) -> ScriptedStream:
    more = "".join(f", {key}: {value}" for key, value in keys.items())
    return stream(**SHORT, queries=f"{{share: 0.5{more}}}")


def share_of_what_was_asked(source: ScriptedStream, chunk: Chunk) -> np.ndarray[Any, Any]:
    """For each item, the share of the query's genres that it has, nan for a recommendation."""
    assert chunk.query is not None
    out = np.full(chunk.items.shape, np.nan)
    for row in np.flatnonzero(chunk.query != NO_QUERY):
        asked = {genre for genre in GENRES if genre.lower() in source.catalogue.queries[chunk.query[row]].split()}
        for column, item in enumerate(chunk.items[row]):
            genres: Any = source.catalogue.items[item].fields["genres"]
            out[row, column] = len(asked & set(genres)) / len(asked)
    return out


def test_a_script_whose_queries_are_not_judged_knows_of_no_relevance() -> None:
    source = searching()
    assert not source.judges and whole(source).relevance is None


def test_judgements_leave_every_other_column_as_it_was() -> None:
    plain, judging = whole(searching()), whole(searching(judged=0.5))
    for column in ("time", "user", "domain", "items", "click", "probability", "delay", "query"):
        np.testing.assert_array_equal(getattr(plain, column), getattr(judging, column))


def test_without_error_relevance_is_the_share_of_what_was_asked_that_an_item_has() -> None:
    source = searching(judged=1.0, misjudged=0.0)
    chunk = whole(source)
    assert source.judges
    np.testing.assert_allclose(chunk.relevance, share_of_what_was_asked(source, chunk))  # type: ignore[arg-type]


@settings(max_examples=8, deadline=None)
@given(judged=st.floats(0.1, 1.0), misjudged=st.floats(0.0, 1.0))
def test_the_given_shares_are_judged_and_misjudged_and_never_a_recommendation(judged: float, misjudged: float) -> None:
    source = searching(judged=judged, misjudged=misjudged)
    chunk = whole(source)
    assert chunk.relevance is not None and chunk.query is not None
    truth, known = share_of_what_was_asked(source, chunk), ~np.isnan(chunk.relevance)
    searches = chunk.query != NO_QUERY
    assert not known[~searches].any()
    assert known[searches].mean() == pytest.approx(judged, abs=0.06)
    decided = known & (truth != 0.5)  # the opposite of one half is one half
    wrong = ~np.isclose(chunk.relevance[decided], truth[decided])
    assert wrong.mean() == pytest.approx(misjudged, abs=0.08)
    np.testing.assert_allclose(chunk.relevance[decided][wrong], 1 - truth[decided][wrong])


def test_judgements_are_the_same_whatever_the_chunk_size() -> None:
    one, other = (whole(searching(judged=0.5), requests=size) for size in (4_096, 90))
    np.testing.assert_array_equal(one.relevance, other.relevance)


def test_the_shipped_script_of_searches_is_judged() -> None:
    script = find_script("search")
    assert script.queries is not None and script.queries.judged > 0


def test_examples_hold_the_judgements_and_make_another_backbone() -> None:
    made, plain = (Recording(searching(**keys), "Script test") for keys in ({"judged": 0.5}, {}))
    chunk, examples = made.stream.pretraining(), made.examples(made.catalogue.space)
    assert examples.judged and examples.relevance is not None and chunk.relevance is not None
    np.testing.assert_array_equal(examples.relevance.reshape(chunk.items.shape), chunk.relevance)
    without = plain.examples(plain.catalogue.space)
    assert not without.judged and without.relevance is None
    assert b"".join(made.identity()) != b"".join(plain.identity())


def test_a_stream_without_judgements_refuses_the_task_by_its_key() -> None:
    ensure_relevance(1.0, searching(judged=0.5))
    ensure_relevance(0.0, searching())
    with pytest.raises(StreamError, match=r"backbone\.relevance_weight is 0\.5, but the stream test does not say"):
        ensure_relevance(0.5, searching())


def test_the_queries_of_movielens_are_judged_by_nobody(movielens: MovieLens) -> None:
    assert not movielens_search(movielens).judges


# --- logs ---

LOG = """who,what,ts,click,q,rel
a,x,1000000,1,war films,1
a,y,1000001,0,war films,0.25
a,z,1000002,1,,
b,x,1000003,0,love,
b,y,1000004,1,love,0
b,z,1000005,0,war films,0.5
c,x,1000006,1,,
"""
MAPPING = """name: shop
interactions: {{path: log.csv, user: who, item: what, time: ts, label: click{more}}}
{rest}"""


def opened(folder: Path, relevance: str = "rel", log: str = LOG, query: str = "q", rest: str = "") -> LoggedStream:
    more = "".join(f", {key}: {value}" for key, value in {"query": query, "relevance": relevance}.items() if value)
    (folder / "map.yaml").write_text(MAPPING.format(more=more, rest=rest))
    (folder / "log.csv").write_text(log)
    return open_log(folder / "map.yaml")


def judgements(source: LoggedStream) -> dict[tuple[str, str], float]:
    chunk, catalogue = source.log, source.catalogue
    assert chunk.relevance is not None
    return {
        (catalogue.users[chunk.user[row]].user_id, catalogue.items[chunk.items[row, column]].item_id): float(
            chunk.relevance[row, column]
        )
        for row, column in np.argwhere(~np.isnan(chunk.relevance))
    }


def expected_judgements(relevant: float, half: float) -> dict[tuple[str, str], float]:
    return {("a", "x"): relevant, ("a", "y"): half / 2, ("b", "y"): 0.0, ("b", "z"): half}


@pytest.mark.parametrize(
    ("relevance", "log", "expected"),
    [
        ("rel", LOG, expected_judgements(1.0, 0.5)),
        ("{column: rel, at_least: 0.5}", LOG, expected_judgements(1.0, 0.5) | {("a", "y"): 0.0, ("b", "z"): 1.0}),
        ("{column: rel, among: ['1']}", LOG, expected_judgements(1.0, 0.0)),
    ],
)
def test_a_mapping_names_the_judgements_and_an_empty_cell_is_none(
    relevance: str, log: str, expected: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    source = opened(tmp_path, relevance, log)
    assert source.judges
    assert judgements(source) == expected


def test_a_log_without_the_key_knows_of_no_judgements(tmp_path: Path) -> None:
    source = opened(tmp_path, "")
    assert not source.judges and source.log.relevance is None


def test_judgements_without_a_query_do_not_count_and_a_warning_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        source = opened(tmp_path, log=LOG.replace("1000006,1,,", "1000006,1,,1"))
    assert judgements(source) == expected_judgements(1.0, 0.5)
    assert "1 judgements of relevance on rows without a query do not count" in caplog.text


def test_drawn_negatives_are_judged_by_nobody(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n},{1_000_000 + n},1,war,{n % 2}" for n in range(60)]
    log = "\n".join([LOG.split("\n", maxsplit=1)[0], *rows])
    source = opened(tmp_path, log=log, rest="negatives: {per_click: 4}")
    assert judgements(source) == {(f"u{n % 7}", f"i{n}"): float(n % 2) for n in range(60)}


WRONG = {
    "no such column": ("relevant", LOG, "q", "no column 'relevant' for relevance"),
    "no query": ("rel", LOG, "", "relevance is that of an item to a query: name the column of `query` too"),
    "beyond 1": ("rel", LOG.replace("0.25", "3"), "q", "row 2: 3 is not between 0 and 1; scale the column"),
    "no number": ("rel", LOG.replace("0.25", "some"), "q", "row 2: 'some' is no number"),
    "all alike": ("{column: rel, at_least: 7}", LOG, "q", "judges no row of a search, or all of them alike"),
    "an unknown key": ("{columm: rel}", LOG, "q", "columm"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_rule_is_refused_with_what_is_wrong(fault: str, tmp_path: Path) -> None:
    relevance, log, query, says = WRONG[fault]
    with pytest.raises(StreamError, match=says):
        opened(tmp_path, relevance, log, query)
