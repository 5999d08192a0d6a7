"""What every method for a new scene must keep: the old scenes to the last bit, and nothing but its own moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.backbone.checkpoint import BackboneRefused, load_backbone, save_backbone
from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.grown import grow
from model.backbone.interface import fingerprint
from model.backbone.levels import LEVELS, Level, level_of
from model.backbone.methods.conure import SceneConure
from model.backbone.methods.method import METHOD_NAMES, MethodName, SceneEntry
from model.backbone.methods.scenes import METHODS, BackboneWithScenes
from model.backbone.shape import BackboneShape
from model.backbone.trainer import logits_of
from model.backbone.transfer import Transferred, fine_tune, trainable
from model.config import PretrainConfig
from tests.model.backbone.test_transfer import NEW_SCENE, NewScene
from tests.model.conftest import SCHEMA, SIZES, SMALL, World

QUICK = PretrainConfig(epochs=1, batch_size=64, learning_rate=1e-2)
OTHER = {"domain_map": "full", "gating": "cls", "trunk": "ple", "target_statistics": False, "item_aspects": ("id",)}
MakeBackbone = Callable[..., FoundationBackbone]
SHAPE = BackboneShape(5, 5, 8, 8, (1, 1), (3,), SIZES)


def encoder_of(method: str) -> dict[str, object]:
    """A backbone that the method fits."""
    return {"user_encoder": "sasrec"} if method.startswith("peterrec") else {}


class Fitted:
    """A toy backbone's new scene by each method; keys change the backbone's configuration. Each is made once."""

    def __init__(self, world: World, make_backbone: MakeBackbone) -> None:
        self.world, self.scene, self._make = world, NewScene(world), make_backbone
        self._made: dict[str, Transferred] = {}

    def by(self, method: MethodName, **changes: object) -> Transferred:
        name = json.dumps([method, changes])
        if name not in self._made:
            self._made[name] = self.on(self._make(**changes), method)
        return self._made[name]

    def on(
        self,
        backbone: FoundationBackbone,
        method: MethodName,
        frozen: tuple[Level, ...] = (),
        config: PretrainConfig = QUICK,
    ) -> Transferred:
        return fine_tune(
            backbone, self.scene.examples, self.scene.users, self.scene.items, self.world.encoder,
            frozen=frozen, config=config, click_rate=float(self.world.examples.label.mean()), method=method,
        )  # fmt: skip

    def third(self, second: Transferred, method: MethodName) -> Transferred:
        """One more scene on top, where every second item is clicked."""
        scene = self.scene
        domain = scene.examples.domain.copy()
        domain[:, 0] = NEW_SCENE + 1
        examples = replace(scene.examples, domain=domain, label=(scene.examples.item % 2).astype(np.float32))
        return fine_tune(
            second.backbone, examples, scene.users, scene.items, second.encoder,
            frozen=(), config=QUICK, click_rate=0.3, method=method,
        )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(world: World, make_backbone: MakeBackbone) -> Fitted:
    return Fitted(world, make_backbone)


def logits(result: Transferred, users_items: World | NewScene, examples: Examples) -> NDArray[np.float32]:
    profiles = ProfileTable(result.encoder, users_items.users, users_items.items)
    return logits_of(result.backbone, TrainingData.of(examples, profiles, result.backbone.config.history))


def cases() -> list[tuple[MethodName, dict[str, object]]]:
    """Each method on its plain backbone and on one with other parts, and in every kind of sequence encoder."""
    plain = [(method, encoder_of(method)) for method in METHOD_NAMES]
    others = [(method, OTHER) for method in METHOD_NAMES if not encoder_of(method)]
    inside: list[tuple[MethodName, str]] = [
        ("houlsby", "nextitnet"), ("peterrec", "gru4rec"), ("peterrec", "nextitnet"), ("peterrec-parallel", "bert4rec"),
        ("peterrec-parallel", "nextitnet"), ("conure", "nextitnet"), ("lora", "bert4rec"),
    ]  # fmt: skip
    sequences: list[tuple[MethodName, dict[str, object]]] = [
        (method, {"user_encoder": name}) for method, name in inside
    ]
    return [*plain, *others, *sequences]


def test_every_method_has_a_name_and_every_name_a_method() -> None:
    assert set(METHODS) == set(METHOD_NAMES)


@pytest.mark.parametrize(("method", "changes"), cases())
def test_old_scenes_are_bit_identical_and_only_parameters_of_the_new_scene_change(
    fitted: Fitted, make_backbone: MakeBackbone, method: MethodName, changes: dict[str, object]
) -> None:
    world, scene, old, result = fitted.world, fitted.scene, make_backbone(**changes), fitted.by(method, **changes)
    before = logits(Transferred(old, world.encoder, result.report), world, world.examples)
    np.testing.assert_array_equal(before, logits(result, world, world.examples))
    start, after = grow(old, world.encoder, result.encoder).model, result.backbone.state_dict()
    own = after.keys() - start.state_dict().keys()
    assert own
    assert all(name.startswith("scenes.0.") for name in own)
    moved = [name for name, value in start.state_dict().items() if not torch.equal(value, after[name])]
    assert all(name.startswith("statistics.") for name in moved)
    assert 0 < result.report.trained_parameters <= sum(after[name].numel() for name in own)
    start.load_state_dict({name: value for name, value in after.items() if name not in own})
    untouched = Transferred(start.freeze(), result.encoder, result.report)
    assert (logits(result, scene, scene.examples) != logits(untouched, scene, scene.examples)).any()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_before_training_the_new_scene_equals_the_extended_backbone(
    fitted: Fitted, make_backbone: MakeBackbone, method: MethodName
) -> None:
    old, scene, encoder = make_backbone(**encoder_of(method)), fitted.scene, fitted.world.encoder
    grown = grow(old, encoder, encoder).model.freeze()
    model = BackboneWithScenes.of(grow(old, encoder, encoder).model)
    model.add(SceneEntry(NEW_SCENE, method, ()))
    profiles = ProfileTable(encoder, scene.users, scene.items)
    data = TrainingData.of(scene.examples, profiles, old.config.history)
    np.testing.assert_array_equal(logits_of(grown, data), logits_of(model.freeze(), data))


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_row_is_scored_by_its_scene_whatever_else_is_in_the_batch(fitted: Fitted, method: MethodName) -> None:
    result, scene = fitted.by(method, **encoder_of(method)), fitted.scene
    profiles = ProfileTable(result.encoder, scene.users, scene.items)
    batch = TrainingData.of(scene.examples, profiles, result.backbone.config.history).batch(torch.arange(40))
    mixed, home = batch.domain.clone(), batch.domain.clone()
    mixed[::2, 0] = home[:, 0] = 1
    answers = []
    for domain in (batch.domain, mixed, home):
        x = result.backbone.represent(replace(batch, domain=domain))
        answers.append(result.backbone.predict(x, domain))
    new, both, old = answers
    assert torch.equal(both[1::2], new[1::2])
    assert torch.equal(both[::2], old[::2])
    assert not torch.equal(new, old)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_backbone_with_scenes_is_saved_and_opened_like_any_backbone(
    fitted: Fitted, method: MethodName, tmp_path: Path
) -> None:
    result, scene = fitted.by(method, **encoder_of(method)), fitted.scene
    schema = replace(SCHEMA, domains={**SCHEMA.domains, "scene": ("home", "shorts")})
    save_backbone(tmp_path, result.backbone, result.encoder, schema, {})
    loaded = load_backbone(tmp_path, schema)
    assert isinstance(loaded.backbone, BackboneWithScenes)
    assert loaded.backbone.entries == (SceneEntry(NEW_SCENE, method, ()),)
    assert loaded.backbone.fingerprint == result.backbone.fingerprint
    opened = Transferred(loaded.backbone, loaded.encoder, result.report)
    np.testing.assert_array_equal(logits(opened, scene, scene.examples), logits(result, scene, scene.examples))
    card = json.loads((tmp_path / "card.json").read_bytes())
    card["backbone"]["scenes"][0]["method"] = "magic"
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(BackboneRefused, match="magic"):
        load_backbone(tmp_path, schema)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_training_is_deterministic_and_leaves_the_old_backbone_unchanged(
    fitted: Fitted, make_backbone: MakeBackbone, method: MethodName
) -> None:
    old, first = make_backbone(**encoder_of(method)), fitted.by(method, **encoder_of(method))
    before = fingerprint(old)
    assert fitted.on(old, method).backbone.fingerprint == first.backbone.fingerprint
    assert fingerprint(old) == before


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_frozen_levels_get_no_parameters(make_backbone: MakeBackbone, method: MethodName) -> None:
    backbone = make_backbone(**encoder_of(method))
    for level in LEVELS:
        if method.startswith("peterrec") and level == "L1":
            continue
        added = BackboneWithScenes(backbone.config, backbone.shape).add(SceneEntry(1, method, (level,)))
        levels = {level_of(name.partition(".")[2].replace("/", ".")) for name, _ in added.named_parameters()}
        assert levels
        assert level not in levels


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_later_scene_changes_no_earlier_scene(fitted: Fitted, method: MethodName) -> None:
    first = fitted.by(method, **encoder_of(method))
    second = fitted.third(first, method)
    for part in (fitted.world, fitted.scene):
        np.testing.assert_array_equal(logits(first, part, part.examples), logits(second, part, part.examples))
    assert isinstance(second.backbone, BackboneWithScenes)
    assert [entry.scene for entry in second.backbone.entries] == [NEW_SCENE, NEW_SCENE + 1]


def test_full_fine_tuning_leaves_the_parameters_of_other_scenes_unchanged(fitted: Fitted) -> None:
    first = fitted.by("lora").backbone
    assert isinstance(first, BackboneWithScenes)
    own, free = {id(p) for p in first.scenes.parameters()}, {id(p) for p in trainable(first, ())}
    assert own
    assert own | free == {id(p) for p in first.parameters()}
    assert not own & free


def test_conure_keeps_a_share_of_free_weights_and_scenes_share_no_weight(fitted: Fitted) -> None:
    second = fitted.third(fitted.by("conure"), "conure")
    assert isinstance(second.backbone, BackboneWithScenes)
    one, other = second.backbone.scenes
    assert isinstance(one, SceneConure)
    assert isinstance(other, SceneConure)
    for key, change in one.changes.items():
        taken, also = change != 0, other.changes[key] != 0
        assert not (taken & also).any()
        assert int(taken.sum()) <= 0.3 * 0.7 * change.numel() + 1
        assert int(also.sum()) <= 0.3 * (change.numel() - int(taken.sum()))
    assert all(any((change != 0).any() for change in method.changes.values()) for method in (one, other))


@pytest.mark.parametrize("method", ["lora", "houlsby", "conure"])
def test_query_aspects_get_method_parameters(method: MethodName) -> None:
    model = BackboneWithScenes(SMALL.model_copy(update={"query_aspects": ("text", "words")}), SHAPE)
    names = [name.replace("/", ".") for name, _ in model.add(SceneEntry(1, method, ())).named_parameters()]
    assert any("query.text" in name for name in names)
    assert any("query.word_map" in name for name in names)


@pytest.mark.parametrize("encoder", ["none", "pool"])
@pytest.mark.parametrize("method", ["peterrec", "peterrec-parallel"])
def test_peterrec_without_layers_to_patch_is_refused_by_the_key(method: MethodName, encoder: str) -> None:
    model = BackboneWithScenes(SMALL.model_copy(update={"user_encoder": encoder}), SHAPE)
    with pytest.raises(BackboneRefused, match=rf"backbone\.user_encoder = '{encoder}'"):
        model.add(SceneEntry(1, method, ()))


def test_peterrec_under_a_frozen_sequence_encoder_is_refused() -> None:
    model = BackboneWithScenes(SMALL.model_copy(update={"user_encoder": "sasrec"}), SHAPE)
    with pytest.raises(BackboneRefused, match="which is L1: leave L1 out of --freeze"):
        model.add(SceneEntry(1, "peterrec", ("L0", "L1")))


@pytest.mark.parametrize("method", ["lora", "houlsby", "conure"])
def test_a_method_without_any_level_to_adapt_is_refused(method: MethodName) -> None:
    with pytest.raises(BackboneRefused, match=rf"{method} finds nothing .* outside the frozen levels L0, L1, L2, L3"):
        BackboneWithScenes(SMALL, SHAPE).add(SceneEntry(1, method, LEVELS))


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_two_towers_are_refused_by_the_key(fitted: Fitted, make_backbone: MakeBackbone, method: MethodName) -> None:
    with pytest.raises(BackboneRefused, match=r'backbone\.trunk is "dssm".*--method full'):
        fitted.on(make_backbone(trunk="dssm"), method)


def test_a_scene_can_have_one_method_only() -> None:
    model = BackboneWithScenes(SMALL, SHAPE, entries=[SceneEntry(1, "lora", ())])
    with pytest.raises(ValueError, match="scene 1 does not exist or already has"):
        model.add(SceneEntry(1, "houlsby", ()))
    with pytest.raises(ValueError, match=f"scene {SIZES[0]} does not exist"):
        model.add(SceneEntry(SIZES[0], "houlsby", ()))
