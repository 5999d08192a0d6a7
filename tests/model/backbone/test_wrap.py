"""A backbone of one's own: the documented DeepFM, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.backbone.interface import FrozenBackbone, fingerprint, round_representation
from model.backbone.wrap import WrappedBackbone
from model.config import KernelConfig, LearnerConfig
from model.encoding.features import FeatureBatch
from model.kernel.batch import MicroBatch
from model.kernel.kernel import live_logit
from model.kernel.learner import Learner
from tests.model.conftest import LIVE, SIZES, TEXT, World, micro_batch

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "own_backbone.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("own_backbone", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def probe(world: World) -> FeatureBatch:
    encoder = world.encoder
    items = [encoder.encode_item(item) for item in world.items[:5]]
    return encoder.batch(encoder.encode_user(world.users[0]), items, (1, 2, 0))


@pytest.fixture(scope="module")
def wrapped(example: Any, probe: FeatureBatch, world: World) -> WrappedBackbone:
    torch.manual_seed(0)
    model = example.DeepFM(len(world.encoder.users), len(world.encoder.items), SIZES[0], TEXT)
    example.train(model, probe, torch.tensor([1.0, 0, 1, 0, 1]))
    found: WrappedBackbone = example.as_backbone(model, probe)
    return found


def test_the_documented_deepfm_carries_a_kernel_that_is_the_identity_at_birth(
    wrapped: WrappedBackbone, probe: FeatureBatch
) -> None:
    assert isinstance(wrapped, FrozenBackbone)
    x = round_representation(wrapped.represent(probe))
    domain = probe.domain.expand(5, -1)
    learner = Learner(wrapped, KernelConfig(), LearnerConfig(), live_width=LIVE, domain_sizes=SIZES)
    frozen = wrapped.predict(x, domain)
    assert frozen.shape == (5, 2)
    assert torch.equal(live_logit(learner.publish(), wrapped, x, torch.zeros(5, LIVE), domain), frozen[:, 0])


def test_a_kernel_learns_on_it_and_leaves_it_untouched(wrapped: WrappedBackbone) -> None:
    before = fingerprint(wrapped)
    learner = Learner(wrapped, KernelConfig(), LearnerConfig(), live_width=LIVE, domain_sizes=SIZES)
    losses = []
    for seed in range(30):
        batch: MicroBatch = micro_batch(wrapped, seed=seed)
        losses.append(learner.learn(batch).loss)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert fingerprint(wrapped) == before


def test_content_comes_from_the_text_if_the_module_has_none(wrapped: WrappedBackbone, probe: FeatureBatch) -> None:
    content = wrapped.content(probe)
    assert content.shape == (5, wrapped.content_width)
    assert torch.equal(content, wrapped.content(probe))


class Good(nn.Module):
    """The least that works; the others break one promise each."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(TEXT, 6)

    def represent(self, batch: FeatureBatch) -> Tensor:
        found: Tensor = self.net(batch.text)
        return found

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        return x.sum(1)


class NoPredict(nn.Module):
    def represent(self, batch: FeatureBatch) -> Tensor:
        return batch.text


class Flat(Good):
    def represent(self, batch: FeatureBatch) -> Tensor:
        return super().represent(batch).sum(1)


class Huge(Good):
    def represent(self, batch: FeatureBatch) -> Tensor:
        return 1e9 * super().represent(batch)


class Moody(Good):
    def represent(self, batch: FeatureBatch) -> Tensor:
        return super().represent(batch) + torch.rand(())


class Wide(Good):
    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        return x


class Detached(Good):
    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        return x.detach().sum(1)


@pytest.mark.parametrize(
    ("module", "error", "says"),
    [
        (NoPredict, TypeError, r"no method predict\(\)"),
        (Flat, ValueError, r"represent\(\) gives shape \(5,\)"),
        (Huge, ValueError, "float16"),
        (Moody, ValueError, "another result"),
        (Wide, ValueError, r"predict\(\) gives shape \(5, 6\)"),
        (Detached, ValueError, "not differentiable"),
    ],
)
def test_a_module_that_breaks_a_promise_is_refused_by_name(
    module: type[nn.Module], error: type[Exception], says: str, probe: FeatureBatch
) -> None:
    with pytest.raises(error, match=says):
        WrappedBackbone(module(), probe)


def test_the_least_that_works_is_taken(probe: FeatureBatch) -> None:
    assert WrappedBackbone(Good(), probe).width == 6
