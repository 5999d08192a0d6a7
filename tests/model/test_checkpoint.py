"""Backbones on disk and containers: all is checked, and refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.backbone.checkpoint import BackboneRefused, load_backbone, save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.schema import FORMAT
from model.container import ContainerError, pack, unpack
from tests.model.conftest import SCHEMA, World


@pytest.fixture
def folder(tmp_path: Path, backbone: FoundationBackbone, world: World) -> Path:
    save_backbone(tmp_path / "backbone", backbone, world.encoder, SCHEMA, {"window": [0, 1]})
    return tmp_path / "backbone"


def test_a_saved_backbone_round_trips_with_its_fingerprint_and_card(
    folder: Path, backbone: FoundationBackbone, world: World
) -> None:
    loaded = load_backbone(folder, SCHEMA)
    assert loaded.backbone.fingerprint == backbone.fingerprint
    assert loaded.encoder.digest == world.encoder.digest
    assert loaded.card["window"] == [0, 1]
    assert isinstance(loaded.backbone, FoundationBackbone)
    for tensor, saved in zip(loaded.backbone.state_dict().values(), backbone.state_dict().values(), strict=True):
        assert torch.equal(tensor, saved)
    assert not any(p.requires_grad for p in loaded.backbone.parameters())


@pytest.mark.parametrize("name", ["card.json", "encoder.json", "backbone.safetensors"])
def test_a_missing_file_is_reported_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BackboneRefused, match=name):
        load_backbone(folder, SCHEMA)


@pytest.mark.parametrize("name", ["card.json", "encoder.json", "backbone.safetensors"])
def test_a_truncated_file_is_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BackboneRefused):
        load_backbone(folder, SCHEMA)


STATE = ("user_table.weight", "statistics.user", "statistics.user_count", "first_order.weight")


@pytest.mark.parametrize("name", STATE)
def test_one_changed_parameter_is_detected(folder: Path, name: str) -> None:
    file = folder / "backbone.safetensors"
    tensors, metadata = unpack(file.read_bytes())
    tensors[name][0, 0] += 1e-3
    file.write_bytes(pack(tensors, metadata))
    with pytest.raises(BackboneRefused, match="do not belong together"):
        load_backbone(folder, SCHEMA)


def test_a_changed_vocabulary_is_detected(folder: Path) -> None:
    file = folder / "encoder.json"
    data = json.loads(file.read_text())
    data["users"][0] = "someone else"
    file.write_text(json.dumps(data))
    with pytest.raises(BackboneRefused, match="vocabular"):
        load_backbone(folder, SCHEMA)


@pytest.mark.parametrize("version", [FORMAT - 1, 99])
def test_another_format_is_refused(folder: Path, version: int) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "format": version}))
    with pytest.raises(BackboneRefused, match=f"format {version}, this version reads {FORMAT}: pretrain again"):
        load_backbone(folder, SCHEMA)


def test_an_encoder_of_another_backbone_is_not_saved_with_it(tmp_path: Path, backbone: FoundationBackbone) -> None:
    with pytest.raises(BackboneRefused, match="encoder"):
        save_backbone(tmp_path, backbone, World(seed=3, users=5).encoder, SCHEMA, {})


def test_equal_content_gives_equal_bytes_in_any_order() -> None:
    one, two = torch.arange(3.0), torch.arange(4)
    assert pack({"a": one, "b": two}, {"x": 1, "y": 2}) == pack({"b": two, "a": one}, {"y": 2, "x": 1})


def test_a_container_of_another_program_is_refused() -> None:
    from safetensors.torch import save

    with pytest.raises(ContainerError, match="not a container written by Driftline"):
        unpack(save({"a": torch.zeros(2)}))
