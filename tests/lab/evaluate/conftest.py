"""What the tests of the evaluation share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import lab.evaluate.work as work_module
import lab.streams.sources as sources_module
from lab.evaluate.plan import Plan, make_plan
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.pretrained import Pretrained, pretrain_on
from lab.streams import RealItems, ScriptedStream
from lab.streams.sources import Source
from tests.lab.evaluate.small import CONFIG, DRIFT, KERNEL, small, texts
from tests.lab.streams.worlds import REAL, script

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    """The backbone of all small streams: their first halves are the same."""
    return pretrain_on(small(), CONFIG, KERNEL, texts, 0)


@pytest.fixture(scope="module")
def prepared(pretrained: Pretrained) -> tuple[ScriptedStream, PreparedStream]:
    stream = small()
    return stream, prepare(stream, pretrained, CONFIG)


def tiny_plan(patch: pytest.MonkeyPatch, folder: Path) -> Plan:
    """A plan of two small scripted streams over made-up items, with made-up text vectors; it works in `folder`."""
    patch.setattr(sources_module, "fetch", lambda cache, *_, **__: cache)
    patch.setattr(sources_module, "load", lambda path: path)
    patch.setattr(RealItems, "of", staticmethod(lambda data, config: REAL))
    patch.setattr(work_module, "text_vectors", lambda plan, values: texts(values))
    keys: dict[str, Any] = {"requests": 300, "pretrain_requests": 300, "users": 40}
    sources = [Source(n, script=script(e, **keys).model_copy(update={"name": n})) for n, e in
             (("drift", DRIFT), ("no-drift", "[]"))]  # fmt: skip
    plan = make_plan(sources, ("full", "live-head", "iak"), 2, folder, folder, quick=False,
                     kernel=KERNEL)  # fmt: skip
    return replace(plan, config=CONFIG)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    return tiny_plan(monkeypatch, tmp_path)
