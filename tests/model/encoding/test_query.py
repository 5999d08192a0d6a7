"""Queries as tensors: words by hash, each different query once, and who asks what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.config import NO_QUERY
from model.encoding.features import FeatureEncoder
from model.encoding.query import MAX_WORDS, WORD_ROWS, EncodedQuery, Queries, QueryFeatures
from model.encoding.vocabulary import Vocabulary

WIDTH = 3


def query(text: str, value: float = 1.0) -> EncodedQuery:
    return EncodedQuery.of(text, np.full(WIDTH, value, dtype=np.float32))


@given(st.text(max_size=200))
def test_words_have_separate_rows_with_weights_that_sum_to_one(text: str) -> None:
    made = query(text)
    there = made.weight > 0
    assert made.words.shape == made.weight.shape == (MAX_WORDS,)
    assert ((made.words > 0) == there).all() and (made.words < WORD_ROWS).all()
    assert made.weight.sum() == pytest.approx(1.0 if there.any() else 0.0)


def test_case_and_punctuation_do_not_make_another_word() -> None:
    assert np.array_equal(query("War, and Peace").words, query("war AND peace!").words)
    assert not np.array_equal(query("war").words, query("peace").words)


def test_words_beyond_the_limit_are_covered_by_the_text_vector_only() -> None:
    long = " ".join(f"w{n}" for n in range(MAX_WORDS + 5))
    assert (query(long).weight > 0).sum() == MAX_WORDS


ASKED = st.lists(st.integers(NO_QUERY, 4), min_size=1, max_size=12)


@given(ASKED, st.data())
def test_every_request_is_mapped_to_its_own_query(asked: list[int], data: st.DataObject) -> None:
    table = Queries.table([query(f"q{n}", float(n)) for n in range(5)], WIDTH)
    queries = table.asked(torch.tensor(asked))
    assert len(queries.text) == len({*asked} - {NO_QUERY}), "each query is encoded once"
    index = data.draw(st.lists(st.integers(0, len(asked) - 1), min_size=1))
    picked = queries.pairs(torch.tensor(index))
    both = Queries.side_by_side([picked, queries])
    for made, wanted in ((picked, [asked[n] for n in index]), (both, [*(asked[n] for n in index), *asked])):
        assert made.there.tolist() == [one != NO_QUERY for one in wanted]
        of = [int(made.text[place, 0]) if place != NO_QUERY else NO_QUERY for place in made.of]
        assert of == wanted


def test_a_text_vector_of_another_width_is_refused_with_its_query() -> None:
    encoder = FeatureEncoder(Vocabulary([]), Vocabulary([]), [], [], text_width=WIDTH)
    with pytest.raises(ValueError, match=r"'war': text vector has shape \(2,\)"):
        encoder.encode_query(QueryFeatures("war", np.ones(2, dtype=np.float32)))
    with pytest.raises(ValueError, match="'war': text vector has non-finite"):
        encoder.encode_query(QueryFeatures("war", np.full(WIDTH, np.nan, dtype=np.float32)))
