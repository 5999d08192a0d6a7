"""Time that a scene's own parameters add to the models' time of a request of 100 candidates, by method and scene."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.kernel_cost import CANDIDATES, SIZES, SLOTS_ITEM, SLOTS_USER, features
from benchmarks.user_encoders import full_history, request_ms
from model.backbone.methods.method import METHOD_NAMES, SceneEntry
from model.backbone.methods.scenes import make_with_scenes
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig

_ITEMS = 10_000
_SCENE = SIZES[0] - 1


def main() -> int:
    """Prints the median CPU time of a request to the scene, and to another one."""
    torch.set_num_threads(1)
    table = Table(
        "method", "another scene", "the scene", title=f"{CANDIDATES} candidates, user_encoder sasrec, one core"
    )
    table.add_row("none", f"{_ms([], 0):.2f} ms", "")
    for method in METHOD_NAMES:
        entries = [SceneEntry(_SCENE, method, ())]
        table.add_row(method, f"{_ms(entries, 0):.2f} ms", f"{_ms(entries, _SCENE):.2f} ms")
    Console().print(table)
    return 0


def _ms(entries: list[SceneEntry], scene: int) -> float:
    torch.manual_seed(0)
    config = BackboneConfig(user_encoder="sasrec")
    shape = BackboneShape(_ITEMS, _ITEMS, 40, 40, SLOTS_USER, SLOTS_ITEM, SIZES)
    backbone = make_with_scenes(config, shape, "", entries).freeze()
    batch = features(CANDIDATES, 1, _ITEMS)
    batch = replace(batch, domain=torch.tensor([[scene, 0, 0]]), history=full_history(config))
    return request_ms(backbone, batch, partial(backbone.represent, batch))
