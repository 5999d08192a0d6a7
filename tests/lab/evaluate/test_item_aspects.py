"""The lab on backbones that know an item by less than everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab.evaluate.plan import Plan
from lab.evaluate.work import load_run, load_stream, prepare_stream, run_adapter
from model.config import ItemAspect

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("aspects", [("id",), ("text",)], ids="-".join)
def test_adapters_run_on_a_backbone_with_one_item_aspect(aspects: tuple[ItemAspect, ...], tiny: Plan) -> None:
    backbone = tiny.config.backbone.model_copy(update={"item_aspects": aspects})
    plan = replace(tiny, config=replace(tiny.config, backbone=backbone))
    assert plan.key != tiny.key
    source = plan.sources[0]
    prepare_stream(plan, source, 0)
    frozen = load_stream(plan, source, 0).frozen_logit
    for name in ("iak", "full", "full-dense"):
        run_adapter(plan, source, 0, name)
        logit = load_run(plan, source, 0, name).outcome.logit
        assert np.isfinite(logit).all()
        first = logit[: plan.config.training.batch_examples]
        assert np.allclose(first, frozen[: len(first)], atol=1e-2), f"{name} does not start as the frozen model"
