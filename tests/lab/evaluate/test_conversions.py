"""CTCVR-AUC of an arm: its clicks times the frozen CVR, over everything and within requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab.evaluate.conversions import ConversionMeasures, conversion_table, measure_conversions, report_conversions
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.pretrained import pretrain_on
from lab.streams import ScriptedStream
from model.evaluation import auc
from tests.lab.evaluate.small import CONFIG, KERNEL, small, texts

pytestmark = pytest.mark.slow

SHOP = "{rate: 0.3, taste: 2.0}"


@pytest.fixture(scope="module")
def converting() -> tuple[ScriptedStream, PreparedStream]:
    stream = small(conversions=SHOP)
    config = replace(CONFIG, backbone=CONFIG.backbone.model_copy(update={"tasks": "ctr_ctcvr"}))
    pretrained = pretrain_on(stream, config, KERNEL, texts, 0)
    assert pretrained.backbone.has_conversion
    return stream, prepare(stream, pretrained, config)


def test_a_prepared_stream_holds_conversions_and_the_frozen_cvr(
    converting: tuple[ScriptedStream, PreparedStream],
) -> None:
    _, data = converting
    assert data.conversion is not None and data.cvr_logit is not None
    assert 0 < data.conversion.sum() < data.truth.sum()
    assert not (data.conversion > data.truth).any()
    assert data.cvr_logit.std() > 0
    assert {"conversion", "cvr_logit"} <= set(data.arrays())


def test_the_score_is_the_product_and_an_informative_cvr_improves_on_clicks(
    converting: tuple[ScriptedStream, PreparedStream],
) -> None:
    stream, data = converting
    chunk = next(stream.chunks("live"))
    assert chunk.conversions is not None and data.conversion is not None
    true = chunk.conversions.probability[chunk.shown]
    known = replace(data, cvr_logit=np.log(true) - np.log1p(-true))
    click = np.log(data.probability) - np.log1p(-data.probability)
    measured = measure_conversions(known, click)
    assert measured is not None
    assert measured.auc == auc(data.conversion, data.probability * true)
    assert measured.auc > measured.auc_by_clicks + 0.03
    assert measured.request_auc > measured.request_auc_by_clicks + 0.03


def test_a_constant_cvr_leaves_the_order_of_the_clicks(
    converting: tuple[ScriptedStream, PreparedStream],
) -> None:
    _, data = converting
    measured = measure_conversions(replace(data, cvr_logit=np.zeros(len(data), np.float32)), data.frozen_logit)
    assert measured is not None
    assert measured.auc == pytest.approx(measured.auc_by_clicks, abs=1e-4)


def test_a_stream_without_conversions_has_no_such_figures(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    _, data = prepared
    assert "conversion" not in data.arrays()
    assert measure_conversions(data, data.frozen_logit) is None
    assert report_conversions([(0, {}), (1, {})], ["frozen"]) is None


def test_the_table_pairs_the_arms_by_seed() -> None:
    def measured(own: float) -> ConversionMeasures:
        return ConversionMeasures(own, own + 0.1, 0.5, 0.6, 40, 0.15)

    seeds = [(seed, {"frozen": measured(0.5 + seed / 10), "iak": measured(0.6 + seed / 10)}) for seed in (0, 1)]
    report = report_conversions(seeds, ["frozen", "iak"])
    assert report is not None
    title, head, body = conversion_table("shop", report)
    assert "15.0% of the clicks (40 requests" in title
    assert body[1][head.index("above frozen in requests")].startswith("+0.1000")
    assert len(body) == 2 and all(len(row) == len(head) for row in body)
