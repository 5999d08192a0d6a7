"""Test, then train: nothing is learned before it was scored, or before its label is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lab.adapters import AdapterContext
from lab.adapters.training import GradientTraining
from lab.evaluate.measures import measure
from lab.evaluate.prepare import PreparedStream, Pretrained
from lab.evaluate.prequential import run, schedule
from lab.streams import ScriptedStream
from model.config import LearnerConfig


def test_no_label_is_learned_before_it_is_known(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    _, data = prepared
    seen = []
    for number, (scored, parts) in enumerate(schedule(data, 64)):
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


def test_an_adapter_that_diverges_is_named(prepared: tuple[ScriptedStream, PreparedStream]) -> None:
    with pytest.raises(FloatingPointError, match=r"batch 0: .*learning rate is too high"):
        run(Broken(), prepared[1], 64)


def test_river_learns_from_the_same_features(
    prepared: tuple[ScriptedStream, PreparedStream], pretrained: Pretrained
) -> None:
    pytest.importorskip("river")
    from lab.adapters.river_adapter import RIVER

    stream, data = prepared
    context = AdapterContext(
        pretrained.backbone,
        pretrained.profiles,
        pretrained.log.examples,
        pretrained.start,
        stream.catalogue.space.sizes,
        LearnerConfig(),
        GradientTraining(),
        0,
    )
    outcome = run(RIVER.build(context, RIVER.rate), data, 64)
    assert np.array_equal(outcome.logit[data.batch == 0], data.frozen_logit[data.batch == 0])
    assert measure(data, outcome.logit, (), stream.catalogue.space).auc > 0.5
