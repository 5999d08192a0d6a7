"""Bases by name: what an evaluation may take in place of the configured one."""

from __future__ import annotations

import pytest

from lab.bases.presets import BASES, UnknownBaseError, known_base
from model.config import BackboneConfig


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_found_by_its_name(name: str) -> None:
    assert known_base(name, BackboneConfig()) == BASES[name]()


def test_an_unknown_name_is_refused_with_the_known_names() -> None:
    with pytest.raises(UnknownBaseError, match=r"no base 'plane'; there are shipped, plain"):
        known_base("plane", BackboneConfig())


def test_a_base_with_a_custom_backbone_is_refused_by_the_key() -> None:
    own = BackboneConfig(factory="somewhere:make")
    with pytest.raises(UnknownBaseError, match=r"backbone.factory names somewhere:make"):
        known_base("plain", own)


@pytest.mark.parametrize("name", BASES)
def test_a_base_learns_the_tasks_of_the_configuration(name: str) -> None:
    asked = BackboneConfig(tasks="ctr_ctcvr", width=99)
    found = known_base(name, asked).backbone
    assert found.tasks == "ctr_ctcvr"
    assert found.model_copy(update={"tasks": "ctr"}) == BASES[name]().backbone
