"""What is put wrong in the conversions of a stream, and how its harm to the conversion task is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.poison_conversions import CLICKS, MeasuredConversions, conversion_table, measure_conversions
from benchmarks.poisoned import span_of
from benchmarks.poisoned_conversions import (
    CONVERSION_POISONS,
    ConversionScores,
    ConvertingHalf,
    play_conversions,
    poisoned_conversions,
)
from lab.evaluate.plan import Plan
from lab.streams.sources import Source
from model.gate.config import GateConfig
from tests.lab.evaluate.conftest import tiny_plan
from tests.lab.evaluate.small import CONFIG, SMALL
from tests.lab.streams.worlds import script

SEED = 0


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConvertingHalf]:
    """Pretrained once: a play changes neither backbone nor features."""
    with pytest.MonkeyPatch.context() as patch:
        yield converting_half(tiny_plan(patch, tmp_path_factory.mktemp("half")))


def converting_half(tiny: Plan) -> ConvertingHalf:
    keys = {"requests": 900, "pretrain_requests": 300, "users": 40}
    shop = script("[]", conversions="{rate: 0.1, taste: 2.0, delay_s: 900}", **keys).model_copy(update={"name": "shop"})
    source = Source("shop", script=shop)
    training = replace(CONFIG.training, batch_examples=32)
    config = replace(CONFIG, backbone=SMALL.model_copy(update={"tasks": "ctr_ctcvr"}), training=training)
    return ConvertingHalf.of(replace(tiny, config=config, sources=(source,)), source, SEED)


def test_conversions_are_wrong_only_for_the_clicks_of_the_span(half: ConvertingHalf) -> None:
    known, span = half.known, span_of(half.requests, SEED)
    inside = known.clicked & (known.request >= span[0]) & (known.request < span[1])
    assert poisoned_conversions(known, "none", span) is known
    flipped, none, every = (poisoned_conversions(known, poison, span) for poison in CONVERSION_POISONS[1:])
    for wrong in (flipped, none, every):
        assert np.array_equal(wrong.converted[~inside], known.converted[~inside])
        assert not (wrong.converted & ~wrong.clicked).any()
        assert (wrong.converted_at >= wrong.clicked_at)[wrong.converted].all()
    assert np.array_equal(flipped.converted[inside], ~known.converted[inside])
    assert not none.converted[inside].any() and every.converted[inside].all()


@pytest.mark.parametrize("gate", [None, GateConfig()])
def test_clicks_served_before_the_wrong_conversions_are_unaffected_by_them(
    half: ConvertingHalf, gate: GateConfig | None
) -> None:
    span = span_of(half.requests, SEED)
    sound, wrong = (play_conversions(half, poison, span, gate) for poison in ("none", "every click converts"))
    before = sound.request < span[0]
    assert np.array_equal(sound.truth, wrong.truth), "the measure would be taken on invented conversions"
    assert np.array_equal(sound.live[before], wrong.live[before])
    assert not np.array_equal(sound.live[before], sound.frozen[before]), "no conversion was learned before"
    assert not np.array_equal(sound.live[~before], wrong.live[~before])


def test_invented_conversions_are_set_aside_and_do_less_harm_with_the_gate(half: ConvertingHalf) -> None:
    span = span_of(half.requests, SEED)
    without, guarded = (
        measure_conversions(play_conversions(half, "every click converts", span, gate), span)
        for gate in (None, GateConfig())
    )
    assert without.set_aside == 0 < guarded.set_aside
    assert without.inside > guarded.inside


def test_the_excess_is_taken_over_the_poisoned_clicks_and_those_that_follow() -> None:
    clicks = 4 * CLICKS
    request, truth = np.arange(clicks), np.ones(clicks)
    live = np.zeros(clicks)
    live[CLICKS : 3 * CLICKS] = -3.0  # wrong in the poisoned requests and as many behind them
    scores = ConversionScores(live, np.zeros(clicks), truth, request, 9)
    found = measure_conversions(scores, (CLICKS, 2 * CLICKS))
    assert found.inside == pytest.approx(np.log1p(np.exp(3)) / np.log(2) - 1)
    assert found.worst == pytest.approx(found.inside) and found.all == pytest.approx(found.inside / 2)
    assert found.set_aside == 9


def test_the_table_has_a_row_per_poison_and_a_figure_per_seed() -> None:
    pair = (MeasuredConversions(0.4, 0.2, 0.1, 0), MeasuredConversions(0.01, -0.01, -0.02, 900))
    table = conversion_table({("shop", poison): [pair, pair] for poison in CONVERSION_POISONS}, (0, 1))
    assert table.row_count == len(CONVERSION_POISONS)
    assert list(table.columns[2].cells) == ["+40.0, +40.0"] * len(CONVERSION_POISONS)
    assert list(table.columns[8].cells) == ["900, 900"] * len(CONVERSION_POISONS)
