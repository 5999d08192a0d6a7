"""Small streams over made-up items, and the settings that fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from features.config import LiveConfig
from lab.adapters.training import GradientTraining
from lab.evaluate.config import EvaluationConfig
from lab.streams import ScriptedStream
from model.config import BackboneConfig, KernelConfig, PretrainConfig
from tests.lab.streams.worlds import REAL, script

TEXT = 6
SMALL = BackboneConfig(
    width=16, id_width=8, sparse_width=4, content_width=4, domain_width=4, text_width=TEXT,
    experts=2, expert_hidden=16, expert_width=8, tower_hidden=8,
)  # fmt: skip
TRAINING = GradientTraining(batch_examples=64, rehearsal_steps=1)
CONFIG = EvaluationConfig(SMALL, PretrainConfig(epochs=2, batch_size=256), LiveConfig(), 8.0, 600.0, 3_600.0, TRAINING)
KERNEL = KernelConfig(rank=4)
DRIFT = "[{kind: taste, at: 0.3, until: 0.7}]"


def texts(values: Any) -> Any:
    return np.random.default_rng(0).normal(size=(len(values), TEXT)).astype(np.float32)


def small(events: str = DRIFT, **keys: Any) -> ScriptedStream:
    return ScriptedStream(script(events, requests=300, pretrain_requests=300, users=40, **keys), REAL)


def write_small_log(folder: Path, rows: int = 600, clicks: float = 0.4) -> tuple[Path, Path]:
    """A log of ten users and its mapping, in `folder`; the share `clicks` of the rows is clicked."""
    rng = np.random.default_rng(1)
    user, item = rng.integers(10, size=rows), rng.integers(20, size=rows)
    click = rng.random(rows) < clicks
    lines = [f"u{u},i{i},{1000 + 10 * n},{int(c)}" for n, (u, i, c) in enumerate(zip(user, item, click, strict=True))]
    log, mapping = folder / "log.csv", folder / "mapping.yaml"
    log.write_text("user,item,time,click\n" + "\n".join(lines))
    mapping.write_text("name: shop\ninteractions: {path: log.csv, user: user, item: item, time: time, label: click}\n")
    return log, mapping
