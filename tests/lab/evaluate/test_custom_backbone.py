"""The lab on a backbone of the user's own: the adapters that fit any backbone run, the others are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.adapters.base import AdapterUnfitError
from lab.evaluate.plan import Plan, make_plan
from lab.evaluate.work import load_run, prepare_stream, run_adapter
from model.backbone.schema import BackboneRefused
from model.config import BackboneConfig

pytestmark = pytest.mark.slow

DEEPFM = BackboneConfig(factory=f"{Path(__file__).parents[3] / 'docs' / 'examples' / 'custom_backbone.py'}:deepfm")


def test_kernel_adapters_run_on_a_custom_backbone(tiny: Plan) -> None:
    backbone = tiny.config.backbone.model_copy(update={"factory": DEEPFM.factory})
    plan = replace(tiny, config=replace(tiny.config, backbone=backbone), adapters=("frozen", "iak", "live-head"))
    source = plan.sources[0]
    prepare_stream(plan, source, 0)
    logits = []
    for name in plan.adapters:
        run_adapter(plan, source, 0, name)
        logits.append(load_run(plan, source, 0, name).outcome.logit)
    assert all(np.isfinite(logit).all() for logit in logits)
    assert not np.array_equal(logits[0], logits[1])


def test_adapters_of_the_foundation_models_layers_are_left_out_or_refused_by_name(tmp_path: Path) -> None:
    chosen = make_plan([], None, 1, tmp_path, tmp_path, quick=True, backbone=DEEPFM).adapters
    assert "iak" in chosen and not {"lora", "full"} & set(chosen)
    with pytest.raises(AdapterUnfitError, match=r"lora changes the layers of the foundation model.*iak"):
        make_plan([], ("iak", "lora"), 1, tmp_path, tmp_path, quick=True, backbone=DEEPFM)


def test_adapters_of_a_trunks_layers_are_left_out_or_refused_by_name_where_there_is_none(tmp_path: Path) -> None:
    towers = BackboneConfig(trunk="dssm")
    chosen = make_plan([], None, 1, tmp_path, tmp_path, quick=True, backbone=towers).adapters
    assert "iak" in chosen and not {"lora", "full"} & set(chosen)
    with pytest.raises(AdapterUnfitError, match=r"full changes the layers .* which backbone\.trunk dssm does not have"):
        make_plan([], ("iak", "full"), 1, tmp_path, tmp_path, quick=True, backbone=towers)


def test_a_missing_factory_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BackboneRefused, match="no file"):
        make_plan([], None, 1, tmp_path, tmp_path, quick=True, backbone=BackboneConfig(factory="nowhere.py:make"))


def test_the_file_of_a_custom_backbone_is_part_of_the_plan_key(tmp_path: Path) -> None:
    def key(source: str) -> str:
        (tmp_path / "own.py").write_text(source)
        own = BackboneConfig(factory=f"{tmp_path / 'own.py'}:make")
        return make_plan([], None, 1, tmp_path, tmp_path, quick=True, backbone=own).key

    assert key("def make(config, shape): ...\n") != key("def make(config, shape): return None\n")
