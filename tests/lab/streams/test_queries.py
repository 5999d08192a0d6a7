"""What users of a script ask for, and how clicks hang on it; streams without queries, and backbones that want some."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.streams import NO_ITEM, Chunk, ScriptedStream, StreamError, ensure_queries, find_script, requests, search_suite
from lab.streams.logged.logs import LoggedStream, open_log
from lab.streams.logged.movielens import MovieLens
from lab.streams.logged.movielens_search import with_queries
from lab.streams.logged.movielens_stream import movielens_search, movielens_stream
from lab.streams.recording import Recording
from lab.streams.scripted.world import RealItems
from model.config import NO_QUERY
from tests.lab.streams.worlds import GENRES, REAL, stream, whole

HALF = "{share: 0.5, match: 3.0}"
SCENES = "{scene: {home: 0.5, search: 0.5}}"


def asked(source: ScriptedStream, chunk: Chunk) -> np.ndarray[Any, Any]:
    assert chunk.query is not None
    return np.asarray(chunk.query != NO_QUERY)


def test_a_script_without_the_key_has_no_searches() -> None:
    source = stream(requests=50)
    assert not source.searches and whole(source).query is None and source.catalogue.queries == ()


def test_adding_queries_leaves_users_times_and_domains_unchanged() -> None:
    plain, searching = whole(stream()), whole(stream(queries=HALF))
    for column in ("time", "user", "domain"):
        np.testing.assert_array_equal(getattr(plain, column), getattr(searching, column))


def test_queries_are_the_same_whatever_the_chunk_size() -> None:
    one, other = (whole(stream(queries=HALF), requests=size) for size in (4_096, 700))
    for column in fields(Chunk):
        np.testing.assert_array_equal(getattr(one, column.name), getattr(other, column.name))


def test_the_share_of_the_scenes_requests_carries_a_query() -> None:
    source = stream(queries="{scenes: [search], share: 0.8}", domains=SCENES)
    chunk = whole(source)
    there = asked(source, chunk)
    search = chunk.domain[:, 0] == source.catalogue.space.values["scene"].index("search")
    assert not (there & ~search).any()
    assert there[search].mean() == pytest.approx(0.8, abs=0.05)


def test_queries_name_item_categories_and_matching_items_are_shown_and_clicked_more() -> None:
    source = stream(queries=HALF)
    chunk = whole(source)
    there = asked(source, chunk)
    words = [source.catalogue.queries[query] for query in chunk.query[there]]  # type: ignore[index]
    fits = np.array([
        [all(genre in _values(source, item) for genre in GENRES if genre.lower() in text) for item in row]
        for text, row in zip(words, chunk.items[there], strict=True)
    ])  # fmt: skip
    assert (chunk.items != NO_ITEM).all()
    assert fits.mean() > 0.3
    assert chunk.click[there][fits].mean() > chunk.click[there][~fits].mean() + 0.2


def _values(source: ScriptedStream, item: int) -> list[str]:
    value = source.catalogue.items[item].fields.get("genres", ["?"])
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def test_the_true_probability_depends_on_the_query() -> None:
    plain, matched = (whole(stream(queries=f"{{share: 1.0, match: {match}}}")) for match in (0.0, 3.0))
    np.testing.assert_array_equal(plain.query, matched.query)
    assert matched.probability.std() > plain.probability.std() + 0.02


def test_the_shipped_script_searches_in_one_scene() -> None:
    (name,) = search_suite()
    source = ScriptedStream(find_script(name).model_copy(update={"pretrain_requests": 200}), REAL)
    there = asked(source, whole(source, "pretrain"))
    assert 0.2 < there.mean() < 0.6


def test_a_scene_that_does_not_exist_is_refused_by_its_name() -> None:
    with pytest.raises(StreamError, match="queries: no scene 'serach'; there are home"):
        stream(queries="{scenes: [serach]}")


def test_items_without_categories_cannot_be_searched() -> None:
    bare = RealItems(REAL.items, REAL.popularity, REAL.users, (), REAL.user_fields)
    with pytest.raises(StreamError, match="categorical item fields"):
        ScriptedStream(stream(queries=HALF).script, bare)


def test_examples_hold_the_query_of_their_request_and_change_the_key_of_the_backbone() -> None:
    short: dict[str, Any] = {"requests": 50, "pretrain_requests": 60, "users": 20}
    made, other = (Recording(stream(**short, queries=f"{{match: {match}}}"), "Script test") for match in (2.0, 2.5))
    chunk, examples = made.stream.pretraining(), made.examples(made.catalogue.space)
    assert examples.query is not None and examples.searches
    np.testing.assert_array_equal(examples.query.reshape(chunk.items.shape), np.repeat(chunk.query[:, None], 10, 1))  # type: ignore[index]
    assert b"".join(made.identity()) != b"".join(other.identity())


def test_a_stream_without_queries_refuses_the_aspects_by_their_key() -> None:
    ensure_queries(("text",), stream(requests=50, queries=HALF))
    ensure_queries((), stream(requests=50))
    with pytest.raises(StreamError, match=r"backbone\.query_aspects is text, but no request of the stream test"):
        ensure_queries(("text",), stream(requests=50))


# --- logs ---

LOG = """who,what,ts,click,q
a,x,1000000,1,war films
a,y,1000001,0,war films
a,z,1000002,1,
b,x,1000003,0,love
b,y,1000004,1,love
b,z,1000005,0,war films
c,x,1000006,1,
"""
MAPPING = (
    "name: shop\ninteractions: {{path: log.csv, user: who, item: what, time: ts, label: click, query: {query}}}\n{rest}"
)


def opened(folder: Path, log: str = LOG, query: str = "q", rest: str = "") -> LoggedStream:
    (folder / "map.yaml").write_text(MAPPING.format(query=query, rest=rest))
    (folder / "log.csv").write_text(log)
    return open_log(folder / "map.yaml")


def test_a_mapping_names_the_query_and_a_new_query_starts_a_new_request(tmp_path: Path) -> None:
    source = opened(tmp_path)
    everything = [*requests(source, "pretrain"), *requests(source, "live")]
    assert source.searches
    assert [(one.user_id, one.query, len(one.items)) for one in everything] == [
        ("a", "war films", 2), ("a", "", 1), ("b", "love", 2), ("b", "war films", 1), ("c", "", 1),
    ]  # fmt: skip


def test_sampled_negatives_keep_the_query_of_their_click(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n},{1_000_000 + n},1,{'war' if n % 3 == 0 else ''}" for n in range(60)]
    source = opened(tmp_path, "\n".join(["who,what,ts,click,q", *rows]), rest="negatives: {per_click: 4}")
    for one in [*requests(source, "pretrain"), *requests(source, "live")]:
        (clicked,) = [item for item, click in zip(one.items, one.clicks, strict=True) if click]
        assert one.query == ("war" if int(clicked[1:]) % 3 == 0 else "")


@pytest.mark.parametrize(
    ("log", "query", "says"),
    [
        (LOG, "asked", "no column 'asked' for query"),
        (LOG.replace("war films", "").replace("love", ""), "q", "is empty in every row"),
        (LOG.replace("love", "l" * 513), "q", "row 4: 513 characters, a request takes at most 512"),
    ],
)
def test_a_wrong_column_is_refused_with_the_reason(log: str, query: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=says):
        opened(tmp_path, log, query)


# --- MovieLens ---


def test_query_films_are_no_candidates_and_halves_do_not_leak_into_each_other(movielens: MovieLens) -> None:
    plain, source = movielens_stream(movielens), movielens_search(movielens)
    log, split = source.log, source.split
    assert log.query is not None
    np.testing.assert_array_equal(log.items, plain.log.items)
    np.testing.assert_array_equal(log.click, plain.log.click)
    for row in np.flatnonzero(log.query != NO_QUERY).tolist():
        later = np.flatnonzero((log.user == log.user[row]) & (np.arange(len(log)) > row))
        wanted = log.items[later[0]][log.click[later[0]]].tolist()
        assert (later[0] < split) == (row < split)
        assert log.time[later[0]] - log.time[row] <= 3_600
        assert not set(wanted) & set(log.items[row].tolist()), "the film in mind must not be a candidate"


def test_the_query_of_a_request_does_not_depend_on_its_own_labels(movielens: MovieLens) -> None:
    source = movielens_stream(movielens)
    before = with_queries(source).log.query
    assert before is not None
    row = int(np.flatnonzero(before != NO_QUERY)[0])
    click = source.log.click.copy()
    click[row] = ~click[row] & source.log.shown[row]
    after = with_queries(replace(source, log=replace(source.log, click=click))).log
    texts = with_queries(source).catalogue.queries
    again = with_queries(replace(source, log=replace(source.log, click=click))).catalogue.queries
    assert after.query is not None and texts[before[row]] == again[after.query[row]]


def test_every_rating_of_the_first_half_has_the_query_of_its_request(movielens: MovieLens) -> None:
    source = movielens_search(movielens)
    first, rated = source.log.rows(slice(0, source.split)), source.pretraining()
    assert first.query is not None and rated.query is not None
    asked = {
        (first.user[row], item): first.query[row]
        for row in range(len(first))
        for item in first.items[row][first.shown[row]].tolist()
    }
    assert [asked[user, item] for user, item in zip(rated.user, rated.items[:, 0], strict=True)] == rated.query.tolist()
