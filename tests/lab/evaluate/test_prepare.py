"""What every adapter is given: representations and live features as they would have been served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lab.evaluate.known_labels import Labels, live_histories
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.prequential import stream_batch
from lab.evaluate.pretrained import Pretrained, pretrain_on
from lab.streams import ScriptedStream
from tests.lab.evaluate.small import CONFIG, KERNEL, small, texts


def test_the_logged_frozen_logit_is_that_of_the_rounded_representation(
    prepared: tuple[ScriptedStream, PreparedStream], pretrained: Pretrained
) -> None:
    _, data = prepared
    batch = stream_batch(data, slice(0, 50))
    with torch.no_grad():
        logit = pretrained.backbone.predict(batch.micro.x, batch.micro.domain)[:, 0]
    torch.testing.assert_close(logit, batch.micro.frozen_logit)


def test_live_features_ignore_labels_that_are_not_decided_yet(
    prepared: tuple[ScriptedStream, PreparedStream], pretrained: Pretrained
) -> None:
    stream, data = prepared
    residuals = slice(
        0, pretrained.layout.residual_width - 1
    )  # its last is the ridge's deviation: not zero without evidence
    assert not data.live[data.batch == 0, residuals].any()
    assert data.live[data.batch == data.batches - 1, residuals].any()
    flipped = small()
    blocks = list(flipped.chunks("live"))
    late = blocks[0].rows(np.arange(len(blocks[0])))
    cut = 200
    click = late.click.copy()
    click[cut:] ^= True
    changed = replace(late, click=click)
    flipped.chunks = lambda half, requests=4096: iter([changed]) if half == "live" else stream.chunks(half, requests)  # type: ignore[method-assign]
    again = prepare(flipped, pretrained, CONFIG)
    first_changed = data.batch[data.request >= cut][0]
    untouched = data.batch <= first_changed
    assert np.array_equal(again.live[untouched], data.live[untouched])
    assert not np.array_equal(again.live[~untouched], data.live[~untouched])


def test_a_click_after_the_window_is_missing_in_training_but_counts_in_the_measures(pretrained: Pretrained) -> None:
    stream = small("[{kind: label_delay, at: 0, mean_s: 100000}]")
    data = prepare(stream, pretrained, CONFIG)
    assert data.label.mean() < 0.1 * data.truth.mean()


def test_the_counters_hold_the_pretraining_log_before_the_first_live_label(
    prepared: tuple[ScriptedStream, PreparedStream], pretrained: Pretrained
) -> None:
    _, data = prepared
    names, log = pretrained.layout.names, pretrained.log.examples
    first = data.batch == 0
    shown = np.bincount(log.item, minlength=data.item.max() + 1)[data.item[first]]
    np.testing.assert_allclose(data.live[first, names.index("item_count")], 0.3 * np.log1p(shown), rtol=1e-5)
    rate = (log.label.sum() + 2) / (len(log) + 5)
    np.testing.assert_allclose(data.live[first, names.index("rate")], np.log(rate / (1 - rate)), rtol=1e-4)


def test_the_values_are_those_of_the_item(
    prepared: tuple[ScriptedStream, PreparedStream], pretrained: Pretrained
) -> None:
    _, data = prepared
    assert data.values.shape == (len(data), pretrained.layout.crossing.slots)
    assert np.array_equal(data.values, pretrained.log.values[data.item])
    assert data.values.max() < pretrained.start.values


def test_a_frozen_model_with_a_live_history_reads_decided_labels_only() -> None:
    encoded = CONFIG.backbone.model_copy(update={"user_encoder": "pool", "history_length": 5, "history_width": 8})
    config = replace(CONFIG, backbone=encoded)
    stream = small()
    trained = pretrain_on(stream, config, KERNEL, texts, 0)
    data = prepare(stream, trained, config)
    (live,) = stream.chunks("live", 4096)
    cut, click = 200, live.click.copy()
    click[cut:] ^= True
    changed = replace(live, click=click)
    flipped = small()
    flipped.chunks = lambda half, requests=4096: iter([changed]) if half == "live" else stream.chunks(half, requests)  # type: ignore[method-assign]
    again = prepare(flipped, trained, config)
    first_changed = data.batch[data.request >= cut][0]
    untouched = data.batch <= first_changed
    # A click that is seen moves a logit by 0.01. On some processors the same history gives other last bits beside other
    # rows, of which the rounding to 16 bits makes 0.00002.
    apart = np.abs(again.frozen_logit - data.frozen_logit)
    assert apart[untouched].max() < 1e-4
    assert apart[~untouched].max() > 1e-2


def test_histories_of_the_live_half_start_from_the_pretraining_log() -> None:
    encoded = CONFIG.backbone.model_copy(update={"user_encoder": "pool", "history_length": 5, "history_width": 8})
    stream = small()
    trained = pretrain_on(stream, replace(CONFIG, backbone=encoded), KERNEL, texts, 0)
    (live,) = stream.chunks("live", 4096)
    nothing = np.full(len(live), 10**6, dtype=np.int64)
    example = int(live.shown.sum())
    known = Labels.of(live, np.zeros(example, bool), np.zeros(len(live), np.int64), nothing, np.full(example, -1))
    past, log = live_histories(stream, trained, known), trained.log.examples
    assert past is not None
    for request in range(0, len(live), 17):
        clicked = (log.user == live.user[request]) & (log.label > 0)
        items = [item for item in past.item[request].tolist() if item >= 0]
        assert len(items) == min(5, len(set(zip(log.time[clicked], log.item[clicked], strict=True))))
        assert set(items) <= set(log.item[clicked].tolist())
