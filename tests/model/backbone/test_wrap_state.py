"""State of a custom module that can be neither saved nor named is refused, by the name of the parameter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.backbone.probe import probe_batch
from model.backbone.wrap import WrappedBackbone
from model.config import BackboneConfig
from model.encoding.features import FeatureBatch
from tests.model.backbone.modules import Good
from tests.model.conftest import SIZES, World


@pytest.fixture(scope="module")
def probe(world: World) -> FeatureBatch:
    return probe_batch(world.encoder, SIZES, BackboneConfig())


def with_state(name: str) -> nn.Module:
    """A working module with one piece of state that cannot be saved as it is."""
    module = Good()
    odd: dict[str, Callable[[], object]] = {
        "bfloat16": module.bfloat16,
        "float16": module.half,
        "float64": module.double,
        "sparse": lambda: module.register_buffer("extra", torch.eye(3).to_sparse()),
        "sparse rows": lambda: module.register_buffer("extra", torch.eye(3).to_sparse_csr()),
        "quantised": lambda: module.register_buffer(
            "extra", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        ),
        "complex": lambda: module.register_buffer("extra", torch.ones(3, dtype=torch.complex64)),
        "lazy": lambda: module.add_module("extra", nn.LazyLinear(3)),
        "meta": lambda: module.register_buffer("extra", torch.ones(3, device="meta")),
        "infinite": lambda: module.register_buffer("extra", torch.full((3,), float("-inf"))),
        "tensor": lambda: setattr(module, "extra", torch.ones(3)),
        "list of tensors": lambda: setattr(module, "extra", [torch.ones(3)]),
        "dict of tensors": lambda: setattr(module, "extra", {"a": (torch.ones(3),)}),
        "list of modules": lambda: setattr(module, "extra", [nn.Linear(2, 2)]),
        "array": lambda: setattr(module, "extra", np.ones(3)),
        "class attribute": lambda: setattr(module, "__class__", type("Odd", (Good,), {"extra": torch.ones(3)})),
    }
    odd[name]()
    return module


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bfloat16", "'net.weight' has type torch.bfloat16"), ("float16", "'net.weight' has type torch.float16"),
        ("float64", "'net.weight' has type torch.float64"), ("complex", "'extra' has type torch.complex64"),
        ("sparse", "'extra' is sparse"), ("sparse rows", "'extra' is sparse"), ("quantised", "'extra' is quantised"),
        ("lazy", "'extra.weight' has no shape yet"), ("meta", "'extra' is on device meta"),
        ("infinite", "'extra' has non-finite values"), ("tensor", "'extra' holds a tensor"),
        ("list of tensors", "'extra' holds a tensor"), ("dict of tensors", "'extra' holds a tensor"),
        ("list of modules", "'extra' holds a module"), ("array", "'extra' holds a NumPy array"),
        ("class attribute", "'extra' holds a tensor"),
    ],
)  # fmt: skip
def test_state_that_can_be_neither_saved_nor_named_is_refused_by_name(
    name: str, words: str, probe: FeatureBatch
) -> None:
    with pytest.raises(ValueError, match=words):
        WrappedBackbone(with_state(name), probe)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
def test_a_dynamically_quantised_layer_is_refused_by_name(probe: FeatureBatch) -> None:
    module = torch.ao.quantization.quantize_dynamic(Good(), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match=r"'net\..*' is a .*, not a plain tensor"):
        WrappedBackbone(module, probe)


def test_a_tensor_that_appears_with_the_first_call_is_refused(probe: FeatureBatch) -> None:
    class Caching(Good):
        def represent(self, batch: FeatureBatch) -> Tensor:
            self.last = super().represent(batch)
            return self.last

    with pytest.raises(ValueError, match="'last' holds a tensor"):
        WrappedBackbone(Caching(), probe)
