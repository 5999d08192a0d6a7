"""Small streams over made-up items, and the laboratory that fits them."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.config import LiveConfig
from lab.evaluate.prepare import LabConfig
from lab.streams import ScriptedStream
from model.config import BackboneConfig, PretrainConfig
from tests.lab.streams.worlds import REAL, script

TEXT = 6
SMALL = BackboneConfig(
    width=16, id_width=8, sparse_width=4, content_width=4, domain_width=4, text_width=TEXT,
    experts=2, expert_hidden=16, expert_width=8, tower_hidden=8,
)  # fmt: skip  # fmt: skip
LAB = LabConfig(SMALL, PretrainConfig(epochs=2, batch_size=256), LiveConfig(), 8.0, 600.0, 64, 1)
DRIFT = "[{kind: taste, at: 0.3, until: 0.7}]"


def texts(values: Any) -> Any:
    return np.random.default_rng(0).normal(size=(len(values), TEXT)).astype(np.float32)


def small(events: str = DRIFT, **keys: Any) -> ScriptedStream:
    return ScriptedStream(script(events, requests=300, pretrain_requests=300, users=40, **keys), REAL)
