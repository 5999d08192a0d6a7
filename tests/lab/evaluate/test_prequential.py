"""Test, then train: nothing is learned before it was scored, or before its label is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lab.adapters import ADAPTERS, AdapterContext, Correctable
from lab.adapters.training import GradientTraining
from lab.evaluate.measures import measure
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.prequential import run, schedule, stream_batch
from lab.evaluate.pretrained import Pretrained
from lab.streams import ScriptedStream
from model.config import LearnerConfig
from tests.lab.evaluate.small import CONFIG, small

LATE = "[{kind: label_delay, at: 0, mean_s: 2000}]"


def context_of(stream: ScriptedStream, pretrained: Pretrained) -> AdapterContext:
    return AdapterContext(
        pretrained.backbone,
        pretrained.profiles,
        pretrained.log.examples,
        pretrained.start,
        stream.catalogue.space.sizes,
        LearnerConfig(),
        GradientTraining(),
        0,
    )


def test_no_label_is_learned_before_it_is_known(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    _, data = prepared
    seen = []
    for number, (scored, parts, _) in enumerate(schedule(data, 64)):
        assert (data.batch[scored] == number).all()
        for part in parts:
            assert len(part) == 64
            assert (data.decided[part] <= number).all()
            seen.append(part)
    learned = np.concatenate(seen)
    assert len(np.unique(learned)) == len(learned)
    assert len(learned) > 0.8 * len(data)


class Recorder:
    """Scores by how often it has learned."""

    parameters = state_bytes = 1

    def __init__(self) -> None:
        self.learned = 0

    def score(self, batch: Any) -> torch.Tensor:
        return torch.full((len(batch),), float(self.learned))

    def learn(self, batch: Any) -> None:
        self.learned += 1


class Broken(Recorder):
    def score(self, batch: Any) -> torch.Tensor:
        return torch.full((len(batch),), float("nan"))


def test_every_batch_is_scored_before_it_is_learned(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    _, data = prepared
    outcome = run(Recorder(), data, 64)
    assert (outcome.logit[data.batch == 0] == 0).all()
    assert (np.diff(outcome.logit) >= 0).all()
    assert outcome.logit[-1] > 10


def test_a_diverging_adapter_is_reported_by_name(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    with pytest.raises(FloatingPointError, match=r"batch 0: .*learning rate is too high"):
        run(Broken(), prepared[1], 64)


class RecordingAdapter(Recorder):
    """Records the examples that it learns, by time and item."""

    def __init__(self) -> None:
        super().__init__()
        self.label: dict[tuple[float, float], float] = {}
        self.corrected = 0

    def learn(self, batch: Any) -> None:
        super().learn(batch)
        self.label.update(zip(keys_of(batch), batch.micro.label.tolist(), strict=True))

    def correct(self, batch: Any, learned_at: NDArray[np.int64]) -> None:
        assert (batch.micro.label == 1).all()
        assert (learned_at > 0).all() and (learned_at <= 64 * self.learned).all()
        assert all(self.label[key] == 0 for key in keys_of(batch))
        self.label.update(dict.fromkeys(keys_of(batch), 1.0))
        self.corrected += len(batch)


def keys_of(batch: Any) -> list[tuple[float, float]]:
    return list(zip(batch.micro.time.tolist(), batch.item.tolist(), strict=True))


def test_all_clicks_within_the_horizon_are_learned_in_the_end_and_none_beyond_it(pretrained: Pretrained) -> None:
    data, adapter = prepare(small(LATE), pretrained, CONFIG), RecordingAdapter()
    run(adapter, data, 64)
    late = data.corrected >= 0
    assert 0.1 < late.sum() / data.truth.sum() < 0.9
    assert (data.corrected[late] >= data.decided[late]).all()
    assert adapter.corrected > 20
    came = (late & (data.corrected < data.batches)) | (data.label > 0)
    clicked = dict(zip(zip(data.time.tolist(), data.item.tolist(), strict=True), came.tolist(), strict=True))
    assert all(label == clicked[key] for key, label in adapter.label.items())
    assert sum(clicked.values()) < data.truth.sum()


def test_examples_are_learned_with_the_logit_that_the_adapter_served(
    prepared: tuple[ScriptedStream, PreparedStream],
) -> None:
    class Served(Recorder):
        def learn(self, batch: Any) -> None:
            assert (batch.micro.live_logit <= self.learned).all()
            self.highest = max(getattr(self, "highest", 0.0), float(batch.micro.live_logit.max()))
            super().learn(batch)

    served = Served()
    run(served, prepared[1], 64)
    assert served.highest > 3


def test_an_adapter_without_corrections_is_not_called(pretrained: Pretrained) -> None:
    data = prepare(small(LATE), pretrained, CONFIG)
    assert run(Recorder(), data, 64).logit[-1] > 0


@pytest.mark.parametrize("name", ["item-mean", "counters"])
def test_corrected_counters_equal_those_of_clicks_on_time(
    name: str, prepared: tuple[ScriptedStream, PreparedStream], pretrained: Pretrained
) -> None:
    stream, data = prepared
    context = context_of(stream, pretrained)
    spec = ADAPTERS[name]
    late, on_time = (spec.build(context, spec.rate) for _ in range(2))
    part = slice(0, 200)
    batch = stream_batch(data, part)
    on_time.learn(batch)
    hidden = np.zeros(len(data), dtype=np.float32)
    late.learn(stream_batch(data, part, hidden))
    clicked = np.flatnonzero(data.label[part])
    assert isinstance(late, Correctable)
    late.correct(stream_batch(data, clicked), np.full(len(clicked), 200))
    assert torch.equal(late.score(batch), on_time.score(batch))


def test_river_learns_from_the_same_features(
    prepared: tuple[ScriptedStream, PreparedStream], pretrained: Pretrained
) -> None:
    pytest.importorskip("river")
    from lab.adapters.river_adapter import RIVER

    stream, data = prepared
    context = context_of(stream, pretrained)
    outcome = run(RIVER.build(context, RIVER.rate), data, 64)
    assert np.array_equal(outcome.logit[data.batch == 0], data.frozen_logit[data.batch == 0])
    assert measure(data, outcome.logit, (), stream.catalogue.space).auc > 0.5
