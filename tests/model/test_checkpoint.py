"""Backbones on disk and kernels on the wire: all is checked, and refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.backbone.checkpoint import BackboneRefused, load_backbone, save_backbone
from model.backbone.foundation import FoundationBackbone
from model.config import KernelConfig
from model.container import ContainerError, pack, unpack
from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo, KernelRefused, pack_kernel, unpack_kernel
from tests.model.conftest import LIVE, SCHEMA, SIZES, World

CONFIG = KernelConfig(latent=4, hidden=8, domain_width=3)
PRINT = "f" * 64


def kernel(seed: int = 0) -> Kernel:
    return Kernel(CONFIG, width=16, live_width=LIVE, domain_sizes=SIZES, seed=seed)


def take(data: bytes, *, live_width: int = LIVE, max_bytes: int = 1_000_000) -> Kernel:
    found, _ = unpack_kernel(
        data, fingerprint=PRINT, config=CONFIG, width=16, live_width=live_width, domain_sizes=SIZES, max_bytes=max_bytes
    )
    return found


INFO = KernelInfo("main", 1, PRINT, 0.0, 0)


@pytest.fixture
def folder(tmp_path: Path, backbone: FoundationBackbone, world: World) -> Path:
    save_backbone(tmp_path / "backbone", backbone, world.encoder, SCHEMA, {"window": [0, 1]})
    return tmp_path / "backbone"


def test_a_saved_backbone_comes_back_with_the_same_fingerprint_and_card(
    folder: Path, backbone: FoundationBackbone, world: World
) -> None:
    loaded = load_backbone(folder, SCHEMA)
    assert loaded.backbone.fingerprint == backbone.fingerprint
    assert loaded.encoder.digest == world.encoder.digest
    assert loaded.card["window"] == [0, 1]
    assert isinstance(loaded.backbone, FoundationBackbone)
    assert not any(p.requires_grad for p in loaded.backbone.parameters())


@pytest.mark.parametrize("name", ["card.json", "encoder.json", "backbone.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BackboneRefused, match=name):
        load_backbone(folder, SCHEMA)


@pytest.mark.parametrize("name", ["card.json", "encoder.json", "backbone.safetensors"])
def test_a_torn_file_is_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BackboneRefused):
        load_backbone(folder, SCHEMA)


def test_one_changed_parameter_is_noticed(folder: Path) -> None:
    file = folder / "backbone.safetensors"
    tensors, metadata = unpack(file.read_bytes())
    tensors["user_table.weight"][0, 0] += 1e-3
    file.write_bytes(pack(tensors, metadata))
    with pytest.raises(BackboneRefused, match="do not belong together"):
        load_backbone(folder, SCHEMA)


def test_a_changed_vocabulary_is_noticed(folder: Path) -> None:
    file = folder / "encoder.json"
    data = json.loads(file.read_text())
    data["users"][0] = "someone else"
    file.write_text(json.dumps(data))
    with pytest.raises(BackboneRefused, match="vocabular"):
        load_backbone(folder, SCHEMA)


def test_another_format_is_refused(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(BackboneRefused, match="format 99"):
        load_backbone(folder, SCHEMA)


def test_an_encoder_of_another_backbone_is_not_saved_with_it(tmp_path: Path, backbone: FoundationBackbone) -> None:
    with pytest.raises(BackboneRefused, match="encoder"):
        save_backbone(tmp_path, backbone, World(seed=3, users=5).encoder, SCHEMA, {})


def test_kernel_of_another_width_is_refused() -> None:
    with pytest.raises(KernelRefused) as refused:
        take(pack_kernel(kernel(), INFO), live_width=LIVE + 1)
    assert refused.value.reason == "shapes"


def test_kernel_with_non_finite_values_is_refused() -> None:
    broken = kernel()
    with torch.no_grad():
        broken.path[0] = float("nan")
    with pytest.raises(KernelRefused) as refused:
        take(pack_kernel(broken, INFO))
    assert refused.value.reason == "contents"


def test_kernel_beyond_the_allowed_size_is_refused_unread() -> None:
    with pytest.raises(KernelRefused) as refused:
        take(b"x" * 101, max_bytes=100)
    assert refused.value.reason == "size"


@pytest.mark.parametrize("metadata", [{}, {"kind": "learner"}, {"kind": "kernel", "format": 1, "group": "main"}])
def test_a_container_that_is_no_kernel_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(KernelRefused) as refused:
        take(pack(kernel().state_dict(), metadata))
    assert refused.value.reason == "garbage"


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_never_crashes(data: bytes) -> None:
    with pytest.raises(KernelRefused) as refused:
        take(data)
    assert refused.value.reason == "garbage"


@settings(max_examples=40)
@given(st.data())
def test_a_kernel_with_a_flipped_byte_is_refused_or_still_well_formed(data: st.DataObject) -> None:
    packed = bytearray(pack_kernel(kernel(), INFO))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    try:
        found = take(bytes(packed))
    except KernelRefused:
        return
    assert all(bool(torch.isfinite(p).all()) for p in found.parameters())


def test_equal_content_gives_equal_bytes_whatever_the_order() -> None:
    one, two = torch.arange(3.0), torch.arange(4)
    assert pack({"a": one, "b": two}, {"x": 1, "y": 2}) == pack({"b": two, "a": one}, {"y": 2, "x": 1})


def test_a_container_of_someone_else_is_refused() -> None:
    from safetensors.torch import save

    with pytest.raises(ContainerError, match="not a container of ours"):
        unpack(save({"a": torch.zeros(2)}))
