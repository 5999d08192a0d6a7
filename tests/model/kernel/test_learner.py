"""The learner: bad input by name, evidence, new domains, budgets and the proximal term."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.backbone.foundation import FoundationBackbone
from model.config import KernelConfig, LearnerConfig
from model.container import ContainerError, pack, unpack
from model.kernel.kernel import Kernel, live_logit
from model.kernel.learner import Learner
from tests.model.conftest import LIVE, SIZES, micro_batch

SMALL: dict[str, Any] = {"latent": 4, "hidden": 8, "domain_width": 3}


def make(backbone: FoundationBackbone, kernel: dict[str, Any] | None = None, **learner: Any) -> Learner:
    return Learner(
        backbone, KernelConfig(**{**SMALL, **(kernel or {})}), LearnerConfig(**learner), live_width=LIVE,
        domain_sizes=SIZES,
    )  # fmt: skip


def in_domain(backbone: FoundationBackbone, domain: tuple[int, int, int], n: int = 32, seed: int = 0) -> Any:
    batch = micro_batch(backbone, n, seed)
    there = torch.tensor([domain]).expand(n, -1).clone()
    return replace(batch, domain=there, frozen_logit=backbone.predict(batch.x, there)[:, 0])


FIELDS = ("x", "live", "label", "conversion", "frozen_logit", "live_logit", "weight", "time")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_value_is_refused_by_the_name_of_its_field(
    backbone: FoundationBackbone, field: str, value: float
) -> None:
    learner, batch = make(backbone), micro_batch(backbone)
    before = learner.snapshot()
    broken = getattr(batch, field).clone()
    broken.view(-1)[3] = value
    with pytest.raises(ValueError, match=f"micro-batch: {field} has non-finite"):
        learner.learn(replace(batch, **{field: broken}))
    assert learner.snapshot() == before


@pytest.mark.parametrize("field", [*FIELDS[:2], "domain", "label", "weight"])
def test_a_wrong_shape_is_refused_by_the_name_of_its_field(backbone: FoundationBackbone, field: str) -> None:
    batch = micro_batch(backbone)
    value = getattr(batch, field)
    wrong = torch.cat([value, value], dim=-1)
    with pytest.raises(ValueError, match=r"micro-batch: .* has shape"):
        make(backbone).learn(replace(batch, **{field: wrong}))  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, SIZES[1]])
def test_a_domain_nobody_declared_is_refused(backbone: FoundationBackbone, index: int) -> None:
    batch = micro_batch(backbone)
    batch.domain[3, 1] = index
    with pytest.raises(ValueError, match="domain has an index outside"):
        make(backbone).learn(batch)


def test_an_empty_batch_is_refused(backbone: FoundationBackbone) -> None:
    with pytest.raises(ValueError, match="no examples"):
        make(backbone).learn(micro_batch(backbone).select(torch.zeros(0, dtype=torch.int64)))


def test_the_report_holds_the_score_from_before_learning(backbone: FoundationBackbone) -> None:
    learner, batch = make(backbone), micro_batch(backbone)
    report = learner.learn(batch)
    assert torch.equal(report.candidate_logit, backbone.predict(batch.x, batch.domain)[:, 0])
    assert not torch.equal(learner.score(batch), report.candidate_logit)


def test_rehearsal_takes_as_many_steps_as_it_is_told(backbone: FoundationBackbone) -> None:
    assert make(backbone, rehearsal_steps=0).learn(micro_batch(backbone)).steps == 1
    assert make(backbone, rehearsal_steps=5).learn(micro_batch(backbone)).steps == 6


def test_recent_batches_are_bounded(backbone: FoundationBackbone) -> None:
    learner = make(backbone, rehearsal_steps=1, rehearsal_batches=3)
    for seed in range(5):
        learner.learn(micro_batch(backbone, seed=seed))
    assert len(learner.recent) == 3
    assert torch.equal(learner.recent[-1].x, micro_batch(backbone, seed=4).x)


def test_an_example_without_weight_teaches_nothing(backbone: FoundationBackbone) -> None:
    learner = make(backbone, proximal=0.0, rehearsal_steps=0)
    batch = micro_batch(backbone)
    learner.learn(replace(batch, weight=torch.zeros(len(batch))))
    assert learner.distance() == 0.0


def test_the_proximal_tie_holds_the_kernel_near_the_last_published_one(backbone: FoundationBackbone) -> None:
    distances = []
    for proximal in (0.0, 1.0):
        learner = make(backbone, {"path": "none"}, proximal=proximal, rehearsal_steps=3, learning_rate=5e-4)
        for seed in range(15):
            learner.learn(micro_batch(backbone, seed=seed))
        distances.append(learner.distance())
    assert distances[1] < 0.7 * distances[0]


@pytest.mark.parametrize("reading", ["A", "B"])
def test_compression_weighs_in_with_its_warm_up(backbone: FoundationBackbone, reading: str) -> None:
    rates = []
    for weight in (0.0, 1.0):
        learner = make(backbone, {"reading": reading}, beta=weight, l1=weight, l2=0.0, warmup_steps=5)
        reports = [learner.learn(micro_batch(backbone, seed=seed)) for seed in range(40)]
        rates.append(reports[-1].compression)
    assert rates[1] < rates[0]


def test_deterministic_reading_reports_no_nats(backbone: FoundationBackbone) -> None:
    report = make(backbone).learn(micro_batch(backbone))
    assert (report.compression, report.matching) == (0.0, 0.0)


def test_a_domain_without_evidence_scores_as_the_frozen_model(backbone: FoundationBackbone) -> None:
    learner = make(backbone, {"min_evidence": 40})
    there, here = in_domain(backbone, (1, 2, 1)), in_domain(backbone, (1, 1, 1))
    for seed in range(3):
        learner.learn(in_domain(backbone, (1, 1, 1), seed=seed))
    learner.learn(there)
    kernel = learner.publish()
    frozen = [backbone.predict(b.x, b.domain)[:, 0] for b in (there, here)]
    assert torch.equal(live_logit(kernel, backbone, there.x, there.live, there.domain), frozen[0])
    assert not torch.equal(live_logit(kernel, backbone, here.x, here.live, here.domain), frozen[1])
    learner.learn(there)
    assert not torch.equal(learner.score(there), frozen[0])


@pytest.mark.parametrize("how", ["mean", "nearest"])
def test_a_new_domain_starts_from_those_that_are_known(backbone: FoundationBackbone, how: str) -> None:
    learner = make(
        backbone, {"sharing": "per_domain", "bank_facets": ("region",), "new_domain_init": how}, rehearsal_steps=0,
        learning_rate=1e-2,
    )  # fmt: skip
    near, far = in_domain(backbone, (0, 1, 0)), in_domain(backbone, (0, 2, 0))
    far = replace(far, x=far.x + 5, label=1 - far.label)
    for _ in range(5):
        learner.learn(near)
        learner.learn(far)
    bank = dict(learner.candidate.named_parameters())["cores.0.0.encode_in.weight"]
    known = bank.detach().clone()
    learner._new_domains.observe(near.x, torch.tensor([[0, 3, 0]]).expand(len(near), -1))
    expected = (known[1] + known[2]) / 2 if how == "mean" else known[1]
    torch.testing.assert_close(bank[3].detach(), expected)
    assert torch.equal(bank[:3].detach(), known[:3])


def test_the_first_domain_of_all_keeps_the_identity(backbone: FoundationBackbone) -> None:
    learner, batch = make(backbone, {"sharing": "per_domain"}), in_domain(backbone, (1, 1, 1))
    assert not learner._new_domains.observe(batch.x, batch.domain)
    assert torch.equal(learner.score(batch), backbone.predict(batch.x, batch.domain)[:, 0])


def test_equal_budgets_rehearse_small_domains_as_often_as_large_ones(backbone: FoundationBackbone) -> None:
    learner = make(backbone, rehearsal_steps=1, rehearsal_plan="per_domain", batch_examples=16)
    large, small = in_domain(backbone, (0, 1, 0), 60), in_domain(backbone, (0, 2, 0), 4)
    for batch in (large, small, large):
        learner.learn(batch)
    generator = torch.Generator().manual_seed(0)
    drawn = [learner._rehearsal.draw(generator) for _ in range(200)]
    regions = [set(batch.domain[:, 1].tolist()) for batch in drawn]
    assert all(len(values) == 1 for values in regions)
    share = sum(values == {2} for values in regions) / len(regions)
    assert 0.35 < share < 0.65
    assert max(len(batch) for batch in drawn) <= 16


def test_equal_budgets_go_on_bit_for_bit_after_a_restore(backbone: FoundationBackbone) -> None:
    one, two = (make(backbone, rehearsal_steps=1, rehearsal_plan="per_domain", rehearsal_batches=3) for _ in range(2))
    for seed in range(5):
        one.learn(micro_batch(backbone, seed=seed))
    two.restore(one.snapshot(), list(one.recent))
    for seed in range(5, 8):
        one.learn(micro_batch(backbone, seed=seed))
        two.learn(micro_batch(backbone, seed=seed))
    assert one.snapshot() == two.snapshot()


def test_a_snapshot_of_another_kernel_or_backbone_or_garbage_is_refused_and_changes_nothing(
    backbone: FoundationBackbone,
) -> None:
    learner = make(backbone)
    before = learner.snapshot()
    with pytest.raises(ContainerError, match=r"kernel\.latent is 5 in the snapshot, 4 here; go back to"):
        learner.restore(make(backbone, {"latent": 5}).snapshot(), [])
    with pytest.raises(ContainerError):
        learner.restore(b"garbage", [])
    assert learner.snapshot() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depends_on": None}, "another version of Driftline wrote it; give this one topics of its own"),
        ({"depends_on": 5}, "another version of Driftline"),
        ({"kind": "kernel"}, "kind is 'kernel', here 'learner'"),
        ({"backbone_fingerprint": ["x"]}, "backbone_fingerprint"),
        ({"steps": "many"}, "steps"),
        ({"batches": None}, "batches"),
    ],
)
def test_a_snapshot_whose_metadata_is_not_the_learners_is_refused_and_changes_nothing(
    backbone: FoundationBackbone, changes: dict[str, object], message: str
) -> None:
    learner = make(backbone)
    before = learner.snapshot()
    tensors, metadata = unpack(before)
    changed = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    for door in (learner.check, lambda data: learner.restore(data, [])):
        with pytest.raises(ContainerError, match=re.escape(message)):
            door(pack(tensors, changed))
    assert learner.snapshot() == before


def test_conversions_teach_only_where_the_backbone_knows_them(make_backbone: Any) -> None:
    for tasks, same in (("ctr", True), ("ctr_ctcvr", False)):
        backbone = make_backbone(tasks=tasks)
        batch = micro_batch(backbone)
        snapshots = []
        for conversion in (batch.conversion, torch.zeros(len(batch))):
            learner = make(backbone, rehearsal_steps=0)
            learner.learn(replace(batch, conversion=conversion))
            snapshots.append(learner.snapshot())
        assert (snapshots[0] == snapshots[1]) == same


def test_a_plug_after_the_trunk_needs_a_backbone_with_a_trunk() -> None:
    with pytest.raises(ValueError, match=r"trunk\(\) and head\(\)"):
        Kernel(KernelConfig(plug="after"), width=4, live_width=2, domain_sizes=SIZES)


def test_what_is_served_is_the_mixture_of_the_arms(backbone: FoundationBackbone) -> None:
    learner = make(backbone)
    for seed in range(8):
        report = learner.learn(micro_batch(backbone, seed=seed))
    batch, arms = micro_batch(backbone, seed=20), learner._arms
    core = learner._score_core(batch).logit
    features = learner.candidate.features(batch.x, batch.live)
    assert features is not None
    logits = [batch.frozen_logit, *(core + path.logit(features) for path in arms.paths)]
    mixed = arms._trust.weights.float() @ torch.stack(logits)
    torch.testing.assert_close(learner.score(batch), mixed, rtol=1e-4, atol=1e-4)
    assert report.trust == pytest.approx(float(1 - arms._trust.weights[0]))


def test_a_kernel_that_learned_wrong_labels_soon_loses_its_trust(backbone: FoundationBackbone) -> None:
    learner = make(backbone)
    for seed in range(20):
        report = learner.learn(micro_batch(backbone, seed=seed))
    assert report.trust > 0.9
    truth = [micro_batch(backbone, 64, seed=seed) for seed in range(40, 44)]
    honest = [replace(batch, label=(batch.frozen_logit > 0).float()) for batch in truth]
    trust = [learner.learn(batch).trust for batch in honest]
    assert min(trust) < 0.5, "it may rise again: the paths unlearn the wrong labels"
    assert torch.nn.functional.binary_cross_entropy_with_logits(learner.score(honest[0]), honest[0].label) < 0.9


def test_one_arm_alone_has_all_the_trust(backbone: FoundationBackbone) -> None:
    learner = make(backbone, {"use_trust": False}, path_half_lives=(1_000.0,))
    for seed in range(5):
        report = learner.learn(micro_batch(backbone, seed=seed))
    assert report.trust == 1.0 and float(learner.publish().trust) == 1.0
    assert torch.equal(learner.candidate.path, learner._arms.paths[0].mean)


def test_a_snapshot_with_other_half_lives_is_refused_and_changes_nothing(backbone: FoundationBackbone) -> None:
    learner = make(backbone)
    learner.learn(micro_batch(backbone))
    before = learner.snapshot()
    with pytest.raises(ContainerError, match=r"learner\.path_half_lives\.count is 3 in the snapshot, 2 here"):
        learner.restore(make(backbone, path_half_lives=(1.0, 2.0, 3.0)).snapshot(), [])
    assert learner.snapshot() == before


@pytest.mark.parametrize("lives", [(), (0.0,), (-3.0, 10.0), (float("nan"),)])
def test_half_lives_that_are_none_are_refused_by_name(lives: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="path_half_lives"):
        LearnerConfig(path_half_lives=lives)
