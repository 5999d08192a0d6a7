"""What users of a script ask for, and how clicks hang on it; streams without queries, and backbones that want some."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from lab.streams import NO_ITEM, Chunk, ScriptedStream, StreamError, ensure_queries, find_script, search_suite
from lab.streams.recording import Recording
from lab.streams.scripted.world import RealItems
from model.encoding.query import NO_QUERY
from tests.lab.streams.worlds import GENRES, REAL, stream, whole

HALF = "{share: 0.5, match: 3.0}"
SCENES = "{scene: {home: 0.5, search: 0.5}}"


def asked(source: ScriptedStream, chunk: Chunk) -> np.ndarray[Any, Any]:
    assert chunk.query is not None
    return np.asarray(chunk.query != NO_QUERY)


def test_a_script_without_the_key_is_all_recommendations() -> None:
    source = stream(requests=50)
    assert not source.searches and whole(source).query is None and source.catalogue.queries == ()


def test_queries_that_nothing_hangs_on_leave_users_times_and_domains_as_they_were() -> None:
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


def test_a_query_asks_for_what_items_have_and_what_fits_is_shown_and_clicked_more() -> None:
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


def test_the_true_probability_knows_the_query() -> None:
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


def test_items_without_categories_cannot_be_asked_for() -> None:
    bare = RealItems(REAL.items, REAL.popularity, REAL.users, (), REAL.user_fields)
    with pytest.raises(StreamError, match="categorical item fields"):
        ScriptedStream(stream(queries=HALF).script, bare)


def test_examples_hold_the_query_of_their_request_and_make_another_backbone() -> None:
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
