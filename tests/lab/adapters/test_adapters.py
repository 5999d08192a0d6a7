"""One behaviour suite over every adapter: identity at first, learning, no learning by scoring, repeatable."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lab.adapters import ADAPTERS, AdapterContext, Frozen, StreamBatch, refit
from lab.adapters.closed_form import ClosedForm
from lab.adapters.full_fine_tuning import FullModel
from lab.adapters.light import ErrorMemory
from lab.adapters.path import ClickPath, Plugs
from lab.adapters.plugs import FacetTables, one_hot
from lab.adapters.trusted import Trusted
from lab.adapters.with_path import HALF_LIFE, WithPath
from tests.lab.adapters.batches import MakeBackbone, batch_of
from tests.model.conftest import SIZES

NAMES = sorted(ADAPTERS)
LEARNING = [name for name in NAMES if name != "frozen"]
RIVALS = [name for name in NAMES if ADAPTERS[name].family == "rival"]
QUICK = ("frozen", "iak", "closed-form", "live-head", "lora", "full", "counters-lr")
"""What the fast tests try; all of them run in `make test`."""


def each(names: list[str]) -> pytest.MarkDecorator:
    """A run per adapter."""
    runs = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]
    return pytest.mark.parametrize("name", runs)


"""They need no backbone: they start from the pretraining log, and know nothing of the frozen model."""
RATE = {"error-memory": 0.5, "closed-form": 9e3, "closed-form-trust": 9e3} | {n: ADAPTERS[n].rate for n in RIVALS}


def loss(logit: torch.Tensor, batch: StreamBatch) -> float:
    return float(torch.nn.functional.binary_cross_entropy_with_logits(logit, batch.micro.label))


@each([name for name in NAMES if name not in RIVALS])
def test_a_new_adapter_scores_as_the_frozen_model(name: str, context: AdapterContext) -> None:
    batch = batch_of(context)
    spec = ADAPTERS[name]
    logit = spec.build(context, spec.rate).score(batch)
    assert logit.shape == (200,)
    if name == "scratch":
        assert not torch.allclose(logit, batch.micro.frozen_logit, atol=0.01)
        return
    # Full fine-tuning has its own x, which is not rounded to float16.
    torch.testing.assert_close(logit, batch.micro.frozen_logit, atol=3e-3 if name.startswith("full") else 1e-5, rtol=0)


@each(LEARNING)
def test_an_adapter_changes_by_learning_and_not_by_scoring(
    name: str, context: AdapterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "EVERY", 1_000)
    batch = batch_of(context)
    adapter = ADAPTERS[name].build(context, RATE.get(name, 1e-2))
    before = adapter.score(batch)
    assert torch.equal(adapter.score(batch), before)
    for _ in range(15):
        adapter.learn(batch)
    assert loss(adapter.score(batch), batch) < loss(before, batch) - 0.003
    assert not adapter.score(batch).requires_grad


@each(NAMES)
def test_a_score_does_not_depend_on_the_label(name: str, context: AdapterContext) -> None:
    adapter = ADAPTERS[name].build(context, RATE.get(name, 1e-2))
    adapter.learn(batch_of(context, seed=1))
    batch = batch_of(context)
    flipped = replace(batch, micro=replace(batch.micro, label=1 - batch.micro.label))
    assert torch.equal(adapter.score(batch), adapter.score(flipped))


@each(LEARNING)
def test_the_same_seed_gives_the_same_adapter(name: str, context: AdapterContext) -> None:
    batches = [batch_of(context, seed=seed) for seed in range(3)]
    scores = []
    for _ in range(2):
        adapter = ADAPTERS[name].build(context, RATE.get(name, 1e-2))
        for batch in batches:
            adapter.learn(batch)
        scores.append(adapter.score(batches[0]))
    assert torch.equal(scores[0], scores[1])


@each(LEARNING)
def test_learning_leaves_the_backbone_unchanged(name: str, context: AdapterContext) -> None:
    before = {key: value.clone() for key, value in context.foundation.state_dict().items()}
    adapter = ADAPTERS[name].build(context, RATE.get(name, 1e-2))
    adapter.learn(batch_of(context))
    assert all(torch.equal(value, before[key]) for key, value in context.foundation.state_dict().items())
    assert not any(p.requires_grad for p in context.foundation.parameters())


@each(LEARNING)
def test_trained_parameters_are_counted(name: str, context: AdapterContext) -> None:
    adapter = ADAPTERS[name].build(context, 1e-2)
    assert adapter.state_bytes > 0
    assert (adapter.parameters > 0) == (name != "error-memory")
    if ADAPTERS[name].family == "few":
        assert adapter.parameters < ADAPTERS["full"].build(context, 1e-2).parameters


@pytest.mark.parametrize("trunk", ["mlp", "mmoe", "ple"])
@pytest.mark.parametrize("tasks", ["ctr", "ctr_ctcvr"])
def test_the_frozen_path_equals_the_backbone(
    trunk: str, tasks: str, context: AdapterContext, make_backbone: MakeBackbone
) -> None:
    backbone = make_backbone(trunk=trunk, tasks=tasks)
    batch = batch_of(replace(context, backbone=backbone))
    path = ClickPath(backbone)
    logit = path(batch.micro.x, batch.micro.domain, Plugs())
    torch.testing.assert_close(logit, batch.micro.frozen_logit, atol=1e-5, rtol=0)
    for layer, (copies, width_in, width_out) in path.shapes.items():
        assert path.weight(layer).shape in {(copies, width_in, width_out), (width_in, width_out)}


def test_parameters_per_domain_do_not_touch_other_domains(context: AdapterContext) -> None:
    batch = batch_of(context, n=300)
    here = batch.micro.domain[:, 1] == 1
    elsewhere = StreamBatch(batch.micro.select(~here), batch.user[~here], batch.item[~here])
    single = replace(batch.micro.select(here), domain=torch.ones(int(here.sum()), 3, dtype=torch.int64))
    learned = StreamBatch(single, batch.user[here], batch.item[here])
    outside = torch.full_like(elsewhere.micro.domain, 0)
    outside[:, 1] = 2
    asked = StreamBatch(replace(elsewhere.micro, domain=outside), elsewhere.user, elsewhere.item)
    for name in ("mlora", "star-norm", "star-rank1"):
        adapter = ADAPTERS[name].build(context, 1e-2)
        before, own = adapter.score(asked), adapter.score(learned)
        adapter.learn(learned)
        assert torch.equal(adapter.score(asked), before)
        assert not torch.equal(adapter.score(learned), own)


def test_facet_tables_add_one_row_per_facet() -> None:
    tables = FacetTables(SIZES, (2, 3), std=1.0, seed=0)
    domain = torch.tensor([[1, 3, 2], [0, 0, 0]])
    picked = tables(one_hot(domain, SIZES))
    rows = tables.table.view(-1, 2, 3)
    torch.testing.assert_close(picked[0], rows[1] + rows[2 + 3] + rows[2 + 4 + 2])
    torch.testing.assert_close(picked[1], rows[0] + rows[2] + rows[6])


def test_an_unknown_user_gets_a_row_that_starts_as_the_out_of_vocabulary_row(context: AdapterContext) -> None:
    model = FullModel(context, live=False, scratch=False)
    row = int(model.user_row[30])
    assert row == context.foundation.user_table.num_embeddings
    table = model.net.user_table.weight
    assert torch.equal(table[row], table[0])
    assert len(table) == row + 1
    assert context.foundation.user_table.num_embeddings == row


def test_the_error_memory_forgets_the_oldest(context: AdapterContext) -> None:
    memory = ErrorMemory(context, 1.0, size=64, neighbours=8)
    first, second = batch_of(context, n=64, seed=1), batch_of(context, n=64, seed=2)
    memory.learn(first)
    filled = ErrorMemory(context, 1.0, size=64, neighbours=8)
    memory.learn(second)
    filled.learn(second)
    assert torch.equal(memory.score(first), filled.score(first))


def test_a_trusted_adapter_has_no_weight_while_it_is_wrong_and_regains_it(context: AdapterContext) -> None:
    class Wrong:
        parameters = state_bytes = 0
        sign = -1.0

        def score(self, batch: StreamBatch) -> torch.Tensor:
            return batch.micro.frozen_logit + self.sign * (4 * batch.micro.label - 2)

        def learn(self, batch: StreamBatch) -> None:
            pass

    inner, batch = Wrong(), batch_of(context, n=64)
    adapter = Trusted(inner, context)
    for _ in range(5):
        adapter.learn(batch)
    assert (adapter.score(batch) - batch.micro.frozen_logit).abs().max() < 0.5
    inner.sign = 1.0
    for _ in range(5):
        adapter.learn(batch)
    assert (adapter.score(batch) - batch.micro.frozen_logit).abs().min() > 1.5


def test_a_path_beside_an_adapter_that_never_learns_is_the_closed_form_alone(context: AdapterContext) -> None:
    beside, alone = WithPath(Frozen(), context), ClosedForm(context, HALF_LIFE)
    for seed in range(3):
        for adapter in (beside, alone):
            adapter.learn(batch_of(context, seed=seed))
    batch = batch_of(context, seed=9)
    assert not torch.equal(beside.score(batch), batch.micro.frozen_logit)
    assert torch.equal(beside.score(batch), alone.score(batch))


def test_the_kernel_of_the_paper_reads_no_live_features_and_the_served_kernel_does(context: AdapterContext) -> None:
    batch = batch_of(context)
    other = replace(batch, micro=replace(batch.micro, live=-batch.micro.live))
    for name, same in (("iak-paper-a", True), ("iak-paper-b", True), ("iak-paper-d", True), ("iak", False)):
        adapter = ADAPTERS[name].build(context, 1e-2)
        for _ in range(3):
            adapter.learn(batch)
        assert torch.equal(adapter.score(batch), adapter.score(other)) == same, name
