"""Adam on one vector, and what is rehearsed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lab.adapters import AdapterContext, StreamBatch
from lab.adapters.gradient import GradientAdapter, RecentBatches
from lab.adapters.line_features import LineFeatures
from lab.adapters.optimiser import AdapterAdam
from lab.adapters.training import GradientTraining
from tests.lab.adapters.batches import batch_of


def test_adam_on_one_vector_equals_the_adam_of_pytorch() -> None:
    def shapes() -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        return [nn.Parameter(torch.randn(size, generator=generator)) for size in ((3, 4), (5,), ())]

    ours, theirs = shapes(), shapes()
    adam = AdapterAdam([(ours[:2], 1e-2), (ours[2:], 1e-1)])
    library = torch.optim.Adam([{"params": theirs[:2], "lr": 1e-2}, {"params": theirs[2:], "lr": 1e-1}])
    for step in range(20):
        adam.zero_gradient()
        library.zero_grad()
        for parameters in (ours, theirs):
            loss = sum((p * (step % 3 - 0.7) + p**2).sum() for p in parameters)
            assert isinstance(loss, torch.Tensor)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(theirs, 1.5)
        adam.step(1.5)
        library.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [0, 3])
def test_the_number_of_rehearsal_steps_is_as_configured(steps: int, context: AdapterContext) -> None:
    seen: list[int] = []
    weight = nn.Parameter(torch.zeros(1))

    def loss(batch: StreamBatch) -> torch.Tensor:
        seen.append(int(batch.user[0]))
        return (weight - 1).square().sum()

    adapter = GradientAdapter(
        [([weight], 0.1)],
        lambda batch: weight.expand(len(batch)),
        GradientTraining(rehearsal_steps=steps),
        0,
        loss=loss,
    )
    adapter.learn(batch_of(context))
    assert len(seen) == 1 + steps
    assert float(weight.detach()) > 0


def test_every_stored_batch_is_drawn_and_the_oldest_is_dropped(context: AdapterContext) -> None:
    recent, generator = RecentBatches(3), torch.Generator().manual_seed(0)
    batch = batch_of(context)
    for number in range(5):
        recent.add(replace(batch, user=torch.full_like(batch.user, number)))
    assert {int(recent.draw(generator).user[0]) for _ in range(60)} == {2, 3, 4}


def test_linear_features_are_zero_until_their_scale_is_known_and_then_keep_it() -> None:
    features, generator = LineFeatures(4, 2), torch.Generator().manual_seed(0)
    x, live = 3 + 2 * torch.randn(150, 4, generator=generator), torch.zeros(150, 2)
    features.observe(x[:50], live[:50])
    assert torch.equal(features(x, live), torch.cat([torch.zeros(150, 6), torch.ones(150, 1)], dim=1))
    features.observe(x[50:], live[50:])
    seen = features(x, live)
    assert seen.shape == (150, features.width)
    torch.testing.assert_close(seen[:, :4].mean(0), torch.zeros(4), atol=0.05, rtol=0)
    torch.testing.assert_close(seen[:, :4].std(0), torch.full((4,), 0.43), atol=0.05, rtol=0)
    features.observe(x + 100, live)
    assert torch.equal(features(x, live), seen)
    assert float(features(x + 1e6, live).max()) == 2.5
