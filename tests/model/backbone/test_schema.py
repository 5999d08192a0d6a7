"""The card against the configuration: every difference is named, whatever process meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.backbone.checkpoint import BackboneRefused, load_backbone, save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.schema import InputSchema, check_card
from model.config import FieldSpec
from tests.model.conftest import FIELDS, GENRES, SCHEMA, World

SCENES, REGIONS, PERIODS = (tuple(SCHEMA.domains[facet]) for facet in ("scene", "region", "period"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, backbone: FoundationBackbone, world: World) -> Path:
    path = tmp_path_factory.mktemp("backbone")
    save_backbone(path, backbone, world.encoder, SCHEMA, {})
    return path


def with_domains(**changed: tuple[str, ...]) -> InputSchema:
    return replace(SCHEMA, domains={**SCHEMA.domains, **changed})


CHANGES: dict[str, tuple[InputSchema, str]] = {
    "a scene added": (with_domains(scene=(*SCENES, "kids")), "domains.scene has 'kids', which pretraining did"),
    "a region removed": (with_domains(region=REGIONS[:-1]), "domains.region lacks 'west', which pretraining had"),
    "a period renamed": (with_domains(period=("day", "dark")), "period has 'dark'.*domains.period lacks 'night'"),
    "another order": (with_domains(region=REGIONS[::-1]), "domains.region has its values in another order"),
    "a field added": (
        replace(SCHEMA, user_fields=(*FIELDS, FieldSpec(name="city"))), "features.user_fields has 'city'"
    ),
    "a field removed": (replace(SCHEMA, item_fields=()), "features.item_fields lacks 'genres'"),
    "a field of another kind": (
        replace(SCHEMA, item_fields=(FieldSpec(name="genres"),)), "'genres' is 'single', pretraining had 'multi'"
    ),
    "other buckets": (
        replace(SCHEMA, user_fields=(FieldSpec(name="age", kind="number", buckets=9), FIELDS[1])),
        "buckets of 'age' is 9, pretraining had 4",
    ),
    "other aspects of an item": (
        replace(SCHEMA, item_aspects=("text",)), "backbone.item_aspects is text, pretraining had id, text, sparse"
    ),
    "another text model": (
        replace(SCHEMA, text_model="words"), "features.text_model is 'words', pretraining had 'letters'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_configuration_that_differs_from_pretraining_is_refused_by_the_key(change: str, folder: Path) -> None:
    schema, words = CHANGES[change]
    for opened in (check_card, load_backbone):
        with pytest.raises(BackboneRefused, match=rf"{words}.*pretrain again"):
            opened(folder, schema)


def test_all_differences_are_reported_together(folder: Path) -> None:
    schema = replace(with_domains(scene=()), item_fields=(), text_model="words")
    with pytest.raises(BackboneRefused, match=r"domains.scene.*features.item_fields.*features.text_model"):
        check_card(folder, schema)


def test_the_order_of_fields_and_the_path_of_the_text_model_do_not_matter(folder: Path) -> None:
    schema = replace(SCHEMA, user_fields=FIELDS[::-1], item_fields=GENRES, text_model="/models/letters")
    assert check_card(folder, schema)["fingerprint"]


@given(st.permutations(REGIONS))
def test_only_the_facet_order_of_pretraining_is_accepted(order: list[str]) -> None:
    assert (with_domains(region=tuple(order)).differences(SCHEMA) == []) == (tuple(order) == REGIONS)


def test_a_schema_round_trips_through_json() -> None:
    again = InputSchema.from_json(json.loads(json.dumps(SCHEMA.to_json())))
    assert again.differences(SCHEMA) == [] == SCHEMA.differences(again)


def test_a_card_without_its_inputs_is_refused(folder: Path, tmp_path: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({key: value for key, value in card.items() if key != "inputs"}))
    with pytest.raises(BackboneRefused, match="KeyError: 'inputs'"):
        check_card(tmp_path, SCHEMA)


DAMAGE: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "a list of domains": ("card.json", lambda card: card["inputs"].update(domains=[])),
    "no shape": ("card.json", lambda card: card["backbone"].update(shape=None)),
    "a negative size": ("card.json", lambda card: card["backbone"]["shape"].update(domain_sizes=[-1, 4, 3])),
    "a user twice": ("encoder.json", lambda encoder: encoder.update(users=["u", "u"])),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_refused_with_a_remedy(case: str, folder: Path, tmp_path: Path) -> None:
    name, damage = DAMAGE[case]
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = json.loads((copy / name).read_text())
    damage(content)
    (copy / name).write_text(json.dumps(content))
    with pytest.raises(BackboneRefused, match=r"the folder is damaged.*copy it again, or pretrain again"):
        load_backbone(copy, SCHEMA)


@pytest.mark.parametrize("name", ["card.json", "encoder.json"])
def test_nesting_beyond_the_parser_is_refused_with_a_remedy(name: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).write_text("[" * 100_000)
    with pytest.raises(BackboneRefused, match=rf"{name}: .*the folder is damaged"):
        load_backbone(copy, SCHEMA)


def test_a_backbone_is_not_saved_with_the_facets_of_another(
    tmp_path: Path, backbone: FoundationBackbone, world: World
) -> None:
    with pytest.raises(BackboneRefused, match=r"the facets have \(3, 4, 3\) values"):
        save_backbone(tmp_path, backbone, world.encoder, with_domains(scene=("home", "kids")), {})
