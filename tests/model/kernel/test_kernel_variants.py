"""One suite of promises over every variant of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import fingerprint
from model.config import KernelConfig, LearnerConfig
from model.kernel.kernel import Kernel, live_logit
from model.kernel.learner import Learner
from model.kernel.record import KernelInfo, KernelRefused, pack_kernel, unpack_kernel
from tests.model.conftest import LIVE, SIZES, micro_batch

Make = Callable[..., FoundationBackbone]
SMALL: dict[str, Any] = {"latent": 4, "hidden": 8, "domain_width": 3}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "reading A": {"reading": "A"},
    "reading B": {"reading": "B"},
    "no live features": {"use_live": False},
    "no path": {"path": "none"},
    "path by gradient": {"path": "gradient"},
    "no trust": {"use_trust": False},
    "by gradient alone": {"path": "gradient", "use_trust": False},
    "nothing live": {"use_live": False, "path": "none"},
    "one kernel per period": {"sharing": "per_domain"},
    "one kernel per region and period": {"sharing": "per_domain", "bank_facets": ("region", "period")},
    "shared and per domain": {"sharing": "both"},
    "shared and per domain, reading B": {"sharing": "both", "reading": "B"},
    "after the trunk": {"plug": "after"},
    "before and after": {"plug": "both", "reading": "A"},
    "waits for evidence": {"min_evidence": 5},
    "initialised from the nearest": {"new_domain_init": "nearest", "sharing": "per_domain"},
}


QUICK = ("default", "reading B", "by gradient alone", "one kernel per period")
"""What the fast tests try; all of them run in `make test`."""


@pytest.fixture(
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS], name="config"
)
def _config(request: pytest.FixtureRequest) -> KernelConfig:
    return KernelConfig(**{**SMALL, **VARIANTS[request.param]})


def make_kernel(config: KernelConfig, backbone: FoundationBackbone, seed: int = 0) -> Kernel:
    return Kernel(
        config, width=backbone.width, live_width=LIVE, domain_sizes=SIZES, trunk_width=backbone.trunk_width, seed=seed
    )


def make_learner(config: KernelConfig, backbone: FoundationBackbone, **changes: Any) -> Learner:
    return Learner(
        backbone, config, LearnerConfig(**{"rehearsal_steps": 2, **changes}), live_width=LIVE, domain_sizes=SIZES
    )


def taught(config: KernelConfig, backbone: FoundationBackbone, batches: int = 6, **changes: Any) -> Learner:
    learner = make_learner(config, backbone, **changes)
    for seed in range(batches):
        learner.learn(micro_batch(backbone, seed=seed))
    return learner


def test_a_new_kernel_is_the_frozen_model_bit_for_bit(config: KernelConfig, backbone: FoundationBackbone) -> None:
    batch = micro_batch(backbone)
    frozen = backbone.predict(batch.x, batch.domain)[:, 0]
    kernel = make_kernel(config, backbone)
    for mode in (True, False):
        kernel.train(mode)
        assert torch.equal(live_logit(kernel, backbone, batch.x, batch.live, batch.domain), frozen)


def test_learning_changes_the_kernel_and_leaves_the_backbone_untouched(
    config: KernelConfig, backbone: FoundationBackbone
) -> None:
    before = fingerprint(backbone)
    learner = taught(config, backbone)
    batch = micro_batch(backbone)
    assert not torch.equal(learner.score(batch), backbone.predict(batch.x, batch.domain)[:, 0])
    assert fingerprint(backbone) == before
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_learning_lowers_the_loss_on_what_the_live_features_say(
    config: KernelConfig, backbone: FoundationBackbone
) -> None:
    if not config.use_live and config.path != "gradient":
        pytest.skip("the label depends on a live feature that this variant does not see")
    learner = make_learner(config, backbone, learning_rate=5e-3, linear_learning_rate=5e-3)
    losses = [learner.learn(micro_batch(backbone, seed=seed)).loss for seed in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_every_parameter_learns(config: KernelConfig, backbone: FoundationBackbone) -> None:
    learner = taught(config, backbone)
    initial = make_kernel(config, backbone, seed=learner.config.seed)
    for (name, before), (_, after) in zip(
        initial.named_parameters(), learner.candidate.named_parameters(), strict=True
    ):
        assert before.numel() == 0 or not torch.equal(before, after), name


def test_same_seed_same_kernel_and_another_seed_another(config: KernelConfig, backbone: FoundationBackbone) -> None:
    first, second = taught(config, backbone).snapshot(), taught(config, backbone).snapshot()
    assert first == second
    assert taught(config, backbone, seed=12).snapshot() != first


def test_learning_is_unmoved_by_the_global_random_state(config: KernelConfig, backbone: FoundationBackbone) -> None:
    torch.manual_seed(1)
    first = taught(config, backbone).snapshot()
    torch.manual_seed(2)
    assert taught(config, backbone).snapshot() == first


def test_restored_learner_goes_on_bit_for_bit(config: KernelConfig, backbone: FoundationBackbone) -> None:
    learner = taught(config, backbone)
    learner.publish()
    learner.learn(micro_batch(backbone, seed=20))
    data, recent = learner.snapshot(), list(learner.recent)
    other = make_learner(config, backbone)
    other.restore(data, recent)
    assert other.snapshot() == data
    for seed in range(30, 34):
        batch = micro_batch(backbone, seed=seed)
        one, two = learner.learn(batch), other.learn(batch)
        assert torch.equal(one.candidate_logit, two.candidate_logit)
    assert learner.snapshot() == other.snapshot()


def test_a_published_kernel_scores_like_the_candidate_and_stays_when_it_moves_on(
    config: KernelConfig, backbone: FoundationBackbone
) -> None:
    learner = taught(config, backbone)
    kernel, batch = learner.publish(), micro_batch(backbone, seed=50)
    served = live_logit(kernel, backbone, batch.x, batch.live, batch.domain)
    assert torch.equal(served, learner.score(batch))
    learner.learn(batch)
    assert torch.equal(live_logit(kernel, backbone, batch.x, batch.live, batch.domain), served)
    assert not torch.equal(learner.score(batch), served)


def test_packed_kernel_comes_back_equal_and_an_equal_kernel_gives_equal_bytes(
    config: KernelConfig, backbone: FoundationBackbone
) -> None:
    kernel = taught(config, backbone).publish()
    info = KernelInfo("main", 3, backbone.fingerprint, 12.5, 192)
    data = pack_kernel(kernel, info)
    again, unpacked_info = unpack_kernel(
        data, fingerprint=backbone.fingerprint, config=config, width=backbone.width, live_width=LIVE,
        domain_sizes=SIZES, trunk_width=backbone.trunk_width,
    )  # fmt: skip
    batch = micro_batch(backbone)
    assert unpacked_info == info
    assert pack_kernel(again, info) == data
    assert torch.equal(
        live_logit(again, backbone, batch.x, batch.live, batch.domain),
        live_logit(kernel, backbone, batch.x, batch.live, batch.domain),
    )


def test_kernel_of_another_backbone_is_refused_by_name(config: KernelConfig, backbone: FoundationBackbone) -> None:
    data = pack_kernel(make_kernel(config, backbone), KernelInfo("main", 1, "0" * 64, 0.0, 0))
    with pytest.raises(KernelRefused) as refused:
        unpack_kernel(
            data, fingerprint=backbone.fingerprint, config=config, width=backbone.width, live_width=LIVE,
            domain_sizes=SIZES, trunk_width=backbone.trunk_width,
        )  # fmt: skip
    assert refused.value.reason == "fingerprint"


def test_serving_is_deterministic(config: KernelConfig, backbone: FoundationBackbone) -> None:
    kernel, batch = taught(config, backbone).publish(), micro_batch(backbone, seed=3)
    first = live_logit(kernel, backbone, batch.x, batch.live, batch.domain)
    assert torch.equal(first, live_logit(kernel, backbone, batch.x, batch.live, batch.domain))


def test_a_mixed_batch_scores_as_each_domain_alone(config: KernelConfig, backbone: FoundationBackbone) -> None:
    kernel, batch = taught(config, backbone).publish(), micro_batch(backbone, seed=4)
    mixed = live_logit(kernel, backbone, batch.x, batch.live, batch.domain)
    alone = [
        live_logit(kernel, backbone, batch.x[i : i + 1], batch.live[i : i + 1], batch.domain[i : i + 1])
        for i in range(len(batch))
    ]
    torch.testing.assert_close(mixed, torch.cat(alone), rtol=1e-4, atol=1e-5)
