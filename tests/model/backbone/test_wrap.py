"""A backbone of the user's own: what is taken, and what is refused, by the name of the method or parameter."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from docs.examples.custom_backbone import DeepFM
from model.backbone.interface import FrozenBackbone, fingerprint, round_representation
from model.backbone.probe import probe_batch, rows, with_user_per_item
from model.backbone.wrap import WrappedBackbone
from model.config import BackboneConfig, LearnerConfig
from model.encoding.features import FeatureBatch
from model.kernel.learner import Learner
from tests.model.backbone.modules import Good, Method, WithContent, after, changed
from tests.model.conftest import SIZES, TEXT, World, kernel_start, micro_batch


@pytest.fixture(scope="module")
def probe(world: World) -> FeatureBatch:
    return probe_batch(world.encoder, SIZES, BackboneConfig())


@pytest.fixture(autouse=True)
def default_dtype() -> Iterator[None]:
    """One module under test changes it."""
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def wrapped(probe: FeatureBatch, world: World) -> WrappedBackbone:
    torch.manual_seed(0)
    return WrappedBackbone(DeepFM(len(world.encoder.users), len(world.encoder.items), SIZES[0], TEXT), probe)


def test_a_kernel_learns_on_a_wrapped_deepfm_and_leaves_it_unchanged(
    wrapped: WrappedBackbone, probe: FeatureBatch
) -> None:
    assert isinstance(wrapped, FrozenBackbone)
    x = round_representation(wrapped.represent(probe))
    assert wrapped.predict(x, probe.domain).shape == (len(probe), 2)
    before = fingerprint(wrapped)
    learner = Learner(kernel_start(wrapped.width), LearnerConfig(), fingerprint=before, domain_sizes=SIZES)
    lead = []
    for seed in range(30):
        batch = micro_batch(wrapped, seed=seed)
        scores = torch.stack([learner.learn(batch).candidate_logit, batch.frozen_logit])
        losses = binary_cross_entropy_with_logits(scores, batch.label.expand(2, -1), reduction="none").mean(1)
        lead.append(float(losses[1] - losses[0]))
    assert lead[0] == 0.0
    assert min(lead[-5:]) > 0
    assert fingerprint(wrapped) == before


def test_content_comes_from_the_text_if_the_module_has_none(wrapped: WrappedBackbone, probe: FeatureBatch) -> None:
    content = wrapped.content(probe)
    assert content.shape == (len(probe), wrapped.content_width)
    assert torch.equal(content, wrapped.content(probe))


METHODS = [(Good, "represent"), (Good, "predict"), (WithContent, "content")]


FAULTS: dict[str, tuple[Callable[[Method, nn.Module], Method], str]] = {
    "dropout": (after(lambda out: dropout(out, 0.5)), "another result the second time"),
    "noise": (after(lambda out: out + torch.rand(())), "another result the second time"),
    "mean of the rows": (after(lambda out: out - out.mean(0)), "among other rows"),
    "softmax of the rows": (after(lambda out: out.softmax(0)), "among other rows"),
    "norm of the batch": (after(lambda out: out / (1 + out.norm())), "among other rows"),
    "squeeze": (after(lambda out: out[..., :1].squeeze() if out.dim() == 2 else out.squeeze()), "gives shape"),
    "too many dimensions": (after(lambda out: out[None]), "gives shape"),
    "rows lost": (after(lambda out: out[:1]), "gives shape"),
    "not finite": (after(lambda out: out / 0), "not finite"),
    "whole numbers": (after(lambda out: out.long()), "gives a tensor of torch.int64"),
    "a tuple": (after(lambda out: (out, out)), "gives a tuple"),
    "an exception": (after(lambda out: out[:, :, 7]), "fails for 1 row"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("base", "method"), METHODS)
def test_every_method_that_violates_the_interface_is_refused_by_name(
    base: type[Good], method: str, fault: str, probe: FeatureBatch
) -> None:
    change, words = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"^{method}\(\).*{words}"):
        WrappedBackbone(changed(base, method, change), probe)


@pytest.mark.parametrize(("base", "method"), [(Good, "predict")])
def test_a_differentiated_method_without_a_gradient_is_refused(
    base: type[Good], method: str, probe: FeatureBatch
) -> None:
    def detached(original: Method, _: nn.Module) -> Method:
        return lambda first, *rest: original(first.detach(), *rest)

    module = changed(base, method, detached).requires_grad_(False)
    with pytest.raises(ValueError, match=rf"{method}\(\) is not differentiable"):
        WrappedBackbone(module, probe)


@pytest.mark.parametrize(("base", "method"), [(Good, "predict")])
def test_a_method_that_works_on_its_input_in_place_is_refused(
    base: type[Good], method: str, probe: FeatureBatch
) -> None:
    def in_place(original: Method, _: nn.Module) -> Method:
        return lambda first, *rest: original(first.mul_(2), *rest)

    with pytest.raises(ValueError, match=rf"{method}\(\) changes its input in place"):
        WrappedBackbone(changed(base, method, in_place), probe)


class NoPredict(nn.Module):
    def represent(self, batch: FeatureBatch) -> Tensor:
        return batch.text


class OneUserOnly(Good):
    """Does not expand the user's row, so a request of one user gives one row."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(100, 6)

    def represent(self, batch: FeatureBatch) -> Tensor:
        x: Tensor = self.user(batch.user)
        return x


class AlwaysTraining(Good):
    """Overrides `train`, so that its dropout is never off."""

    def train(self, mode: bool = True) -> AlwaysTraining:
        del mode
        super().train(True)
        return self


class Counting(Good):
    """Counts its calls in a buffer."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        self.calls += 1
        return super().predict(x, domain)


class CountingPlainly(Good):
    """Counts its calls in a plain attribute, which the fingerprint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        self.calls += 1
        return super().predict(x, domain)


class WiderNumbers(Good):
    """Changes what every other module of the process makes."""

    def represent(self, batch: FeatureBatch) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return super().represent(batch)


class Leaving(Good):
    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        raise SystemExit(3)


class WithoutState(Good):
    def state_dict(self, *_: Any, **__: Any) -> Any:
        return {}


class OtherState(Good):
    def state_dict(self, *_: Any, **__: Any) -> Any:
        return None


class UsersContent(Good):
    def content(self, batch: FeatureBatch) -> Tensor:
        return batch.text[:, :3] + batch.domain[:, :1]


class ShortTable(Good):
    """Has no row for the last value of the period."""

    def __init__(self) -> None:
        super().__init__()
        self.period = nn.Embedding(SIZES[2] - 1, 6)

    def represent(self, batch: FeatureBatch) -> Tensor:
        period: Tensor = self.period(batch.domain[:, 2])
        return super().represent(batch) + period


class BlankText(Good):
    """Divides by the length of a text, which is 0 for an unknown item."""

    def represent(self, batch: FeatureBatch) -> Tensor:
        length: Tensor = batch.text.norm(dim=1, keepdim=True)
        return super().represent(batch) / length


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        (NoPredict, TypeError, r"no method predict\(\)"),
        (OneUserOnly, ValueError, r"represent\(\) gives shape \(1, 6\) for one user with 2 items"),
        (AlwaysTraining, ValueError, r"stays in training mode after eval\(\)"),
        (Counting, ValueError, "a method changes 'calls' when it is called"),
        (CountingPlainly, ValueError, "a method changes 'calls' when it is called"),
        (WiderNumbers, ValueError, r"represent\(\) changes torch's default dtype"),
        (Leaving, ValueError, r"predict\(\) fails for 1 row\(s\): SystemExit: 3"),
        (WithoutState, ValueError, r"state_dict\(\) leaves out 'net.weight'"),
        (OtherState, ValueError, r"state_dict\(\) gives a NoneType"),
        (UsersContent, ValueError, r"content\(\) depends on the user or the domain"),
        (ShortTable, ValueError, r"represent\(\) fails for 37 row"),
        (BlankText, ValueError, r"represent\(\) gives values that are not finite"),
    ],
)
def test_a_module_that_would_fail_in_serving_is_refused_by_name(
    module: type[nn.Module], error: type[Exception], words: str, probe: FeatureBatch
) -> None:
    with pytest.raises(error, match=words):
        WrappedBackbone(module(), probe)


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (lambda: np.random.seed(0), r"represent\(\) changes numpy's random state"),
        (lambda: random.seed(0), r"represent\(\) changes Python's random state"),
        (lambda: torch.set_default_device("meta"), r"represent\(\) changes torch's default device"),
        (lambda: torch.use_deterministic_algorithms(True), r"represent\(\) changes torch's deterministic mode"),
        (lambda: torch.set_float32_matmul_precision("medium"), r"changes torch's precision of matrix products"),
        (lambda: np.seterr(all="raise"), r"represent\(\) changes numpy's handling of errors"),
    ],
)
def test_a_method_that_changes_the_whole_process_is_refused(
    seed: Callable[[], object], words: str, probe: FeatureBatch
) -> None:
    def seeding(method: Method, _: nn.Module) -> Method:
        return lambda *given: (seed(), method(*given))[1]

    errors, states = np.geterr(), (random.getstate(), np.random.get_state())
    try:
        with pytest.raises(ValueError, match=words):
            WrappedBackbone(changed(Good, "represent", seeding), probe)
    finally:
        torch.set_default_device(None)
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")
        np.seterr(**errors)
        random.setstate(states[0])
        np.random.set_state(states[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.to("meta"), r"predict\(\) gives a tensor on meta, expected one on the CPU"),
        (nn.Parameter, r"predict\(\) gives values that do not come from its first input"),
        (lambda x: torch.nested.nested_tensor([x]), r"predict\(\) gives a tensor of torch.float32, expected a dense"),
    ],
)
def test_a_result_that_cannot_be_used_is_refused_by_name(
    change: Callable[[Tensor], object], words: str, probe: FeatureBatch
) -> None:
    with pytest.raises(ValueError, match=words):
        WrappedBackbone(changed(Good, "predict", after(change)), probe)


def test_every_learned_number_is_in_the_fingerprint(probe: FeatureBatch) -> None:
    class Scaled(Good):
        def __init__(self, scale: float, shift: float) -> None:
            super().__init__()
            self.scale = scale
            self.register_buffer("shift", torch.tensor(shift), persistent=False)

    def made(scale: float = 1.0, shift: float = 0.0, bias: float = 0.0) -> str:
        torch.manual_seed(0)
        module = Scaled(scale, shift)
        nn.init.constant_(module.out.bias, bias)
        return WrappedBackbone(module, probe).fingerprint

    prints = {made(), made(scale=2.0), made(shift=1.0), made(bias=1.0)}
    assert len(prints) == 4
    assert made() in prints


@pytest.mark.parametrize("columns", [1, 2])
def test_one_or_two_columns_of_logits_are_accepted(columns: int, probe: FeatureBatch) -> None:
    class Columns(Good):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(6, columns)

        def predict(self, x: Tensor, domain: Tensor) -> Tensor:
            logits: Tensor = self.out(x)
            return logits

    backbone = WrappedBackbone(Columns(), probe)
    assert backbone.has_conversion == (columns == 2)
    assert backbone.predict(torch.ones(1, 6), torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 2)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_with_its_weights_in_a_list_is_accepted(kind: type[nn.LSTM], probe: FeatureBatch) -> None:
    class Recurrent(Good):
        def __init__(self) -> None:
            super().__init__()
            self.cell = kind(6, 6, batch_first=True)

        def represent(self, batch: FeatureBatch) -> Tensor:
            out: Tensor = self.cell(super().represent(batch)[:, None])[0][:, 0]
            return out

    assert WrappedBackbone(Recurrent(), probe).width == 6


def test_the_smallest_valid_module_is_accepted_with_a_batch_of_one_user(world: World) -> None:
    items = [world.encoder.encode_item(item) for item in world.items[:5]]
    probe = world.encoder.batch(world.encoder.encode_user(world.users[0]), items, (1, 2, 0))
    assert WrappedBackbone(Good(), probe).width == 6


@given(st.lists(st.integers(0, 15), min_size=1, max_size=40))
def test_a_wrapped_row_does_not_depend_on_other_rows(
    wrapped: WrappedBackbone, probe: FeatureBatch, index: list[int]
) -> None:
    picked = torch.tensor(index)
    everything = with_user_per_item(probe)
    together = wrapped.represent(everything)[picked]
    torch.testing.assert_close(wrapped.represent(rows(everything, picked)), together)


def test_the_probe_covers_the_first_and_last_row_of_every_table(world: World) -> None:
    probe = probe_batch(world.encoder, (2, 40, 3), BackboneConfig())
    assert (int(probe.user.min()), int(probe.user.max())) == (0, len(world.encoder.users) - 1)
    assert (int(probe.item.min()), int(probe.item.max())) == (0, len(world.encoder.items) - 1)
    assert probe.domain.max(0).values.tolist() == [1, 39, 2]
    assert int(probe.item_sparse.max()) == world.encoder.item_rows - 1
    assert bool((probe.text == 0).all(1).any())
