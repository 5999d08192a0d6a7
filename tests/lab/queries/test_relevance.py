"""Relevance in the comparison of queries: what is measured, beside what, and what it does to clicks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lab.evaluate.work as work_module
import lab.streams.sources as sources_module
from features.profiles import ItemProfile
from lab.evaluate.plan import KERNEL, make_plan
from lab.evaluate.slices import REQUEST_SLICES
from lab.queries.relevance import CLICKS, COSINE, METHODS, TOWER, WORDS, RelevanceMeasures, shared_words
from lab.queries.table import markdown, report_of, sentences
from lab.queries.trial import (
    BOTH,
    FROZEN,
    JUDGED,
    NONE,
    RELEVANCE_WEIGHT,
    QueryTrial,
    read_by,
    run_query_trial,
    ways_to_read,
)
from lab.streams import Catalogue, RealItems
from lab.streams.sources import Source
from model.config import BackboneConfig, FieldSpec
from model.encoding.domain import DomainSpace
from tests.lab.evaluate.small import CONFIG, texts
from tests.lab.evaluate.small import KERNEL as SMALL_KERNEL
from tests.lab.queries.test_queries import trial
from tests.lab.streams.worlds import REAL, script, stream

SEARCH, RECOMMENDATION = REQUEST_SLICES


def judged(seed: int, search: float, recommendation: float) -> QueryTrial:
    """A tower of 0.8 and a little more with each seed, words 0.05 above it, all else 0.2 below."""
    above = {TOWER: 0.0, WORDS: 0.05, CLICKS: -0.2, COSINE: -0.2}
    measures = {
        method: RelevanceMeasures(500, 80, 0.8 + 0.01 * seed + more, 0.7 + 0.01 * seed + more)
        for method, more in above.items()
    }
    return replace(trial(JUDGED, seed, search, recommendation), relevance=measures)


def test_clicks_stand_beside_the_same_backbone_without_relevance_paired_by_seed() -> None:
    trials = [trial(by, seed, search=more) for seed in range(3) for by, more in ((NONE, 0.0), (BOTH, 0.1))]
    trials += [judged(seed, 0.13 + 0.001 * seed, -0.01) for seed in range(3)]
    report = report_of(trials, "domain")
    rows = {(row.by, row.arm): row for row in report.rows}
    above = rows[JUDGED, FROZEN].above_both["request_auc"]
    assert above[SEARCH].mean == pytest.approx(0.031)
    assert above[SEARCH].half_width < 0.01, "the seeds' own level is no spread of a difference"
    assert above[RECOMMENDATION].mean == pytest.approx(-0.01)
    assert rows[BOTH, FROZEN].above_both == {}
    text = "\n".join(sentences(report))
    assert "learning relevance too changes clicks by +0.0310" in text and "(worse) within recommendations" in text
    assert "clicks with relevance learned too, above the same backbone without" in markdown(report)


def test_the_tower_stands_beside_every_other_way_paired_by_seed() -> None:
    trials = [trial(by, seed) for seed in range(3) for by in (NONE, BOTH)]
    report = report_of([*trials, *(judged(seed, 0.0, 0.0) for seed in range(3))], "domain")
    rows = {row.method: row for row in report.relevance}
    assert list(rows) == list(METHODS)
    assert rows[TOWER].figures["request_auc"].mean == pytest.approx(0.81)
    assert rows[WORDS].tower_above["request_auc"].mean == pytest.approx(-0.05)
    assert rows[WORDS].tower_above["auc"].half_width < 1e-6
    assert (rows[TOWER].judged, rows[TOWER].lists) == (1_500, 240)
    assert "search: relevance, 1,500 judged items, 240 searches with both kinds" in markdown(report)
    assert any("-0.0500" in sentence and WORDS in sentence for sentence in sentences(report))


def test_a_stream_without_judgements_has_neither_the_variant_nor_the_table() -> None:
    short: dict[str, Any] = {"requests": 50, "pretrain_requests": 50}
    assert JUDGED not in ways_to_read(stream(**short, queries="{share: 0.5}"))
    assert JUDGED in ways_to_read(stream(**short, queries="{share: 0.5, judged: 0.5}"))
    report = report_of([trial(by, 0) for by in (NONE, BOTH)], "domain")
    assert not report.relevance and "relevance" not in markdown(report)


def test_only_the_last_variant_learns_relevance_by_the_configured_weight_or_ours() -> None:
    plain = BackboneConfig()
    weighed = BackboneConfig(query_aspects=("text",), relevance_weight=0.2)
    assert [read_by(plain, by).relevance_weight for by in (NONE, BOTH, JUDGED)] == [0, 0, RELEVANCE_WEIGHT]
    assert [read_by(weighed, by).relevance_weight for by in (NONE, BOTH, JUDGED)] == [0, 0, 0.2]


def test_shared_words_are_the_share_of_the_query_found_in_text_and_fields_whatever_their_case() -> None:
    item = ItemProfile("i", 0.0, "The War Room", {"genres": ["Documentary"], "year": 1993.0})
    catalogue = Catalogue(
        (), (item,), DomainSpace({"scene": (), "region": (), "period": ()}),
        item_fields=(FieldSpec(name="genres", kind="multi"),), queries=("war documentary films", "love"),
    )  # fmt: skip
    np.testing.assert_allclose(shared_words(catalogue, np.array([0, 1]), np.array([0, 0])), [2 / 3, 0])


@pytest.mark.slow
def test_a_trial_measures_relevance_on_the_judged_items_and_is_made_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources_module, "fetch", lambda cache, *_, **__: cache)
    monkeypatch.setattr(sources_module, "load", lambda path: path)
    monkeypatch.setattr(RealItems, "of", staticmethod(lambda data, config: REAL))
    monkeypatch.setattr(work_module, "text_vectors", lambda plan, values: texts(values))
    queries = "{share: 0.5, match: 4.0, judged: 0.6, misjudged: 0.0}"
    searching = script("[]", requests=300, pretrain_requests=300, users=40, queries=queries)
    source = Source("search", script=searching)
    plan = make_plan([source], (KERNEL,), 1, tmp_path, tmp_path, quick=False, kernel=SMALL_KERNEL)
    plan = replace(plan, config=CONFIG)
    made, both = (run_query_trial(plan, source, 0, by) for by in (JUDGED, BOTH))
    assert not both.relevance and tuple(made.relevance) == METHODS
    judged = int(0.6 * made.arms[FROZEN][SEARCH].examples)
    assert made.relevance[TOWER].judged == pytest.approx(judged, rel=0.1)
    assert made.relevance[WORDS].auc > 0.95, "the words of the genres are the judgement"
    assert made.relevance[TOWER].auc > made.relevance[COSINE].auc
    assert run_query_trial(plan, source, 0, JUDGED) == made
