"""What each user encoder adds to the model time of one request of 100 candidates with a full history."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.kernel_cost import CANDIDATES, SIZES, SLOTS_ITEM, SLOTS_USER, features, median_ms
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import round_representation
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.history import History

_ITEMS = 10_000
_GOAL_MS = 2.0
_Name = Literal["none", "pool", "gru4rec", "nextitnet", "sasrec", "bert4rec"]


def main() -> int:
    """Prints the median CPU time of a request per encoder, and what that is above `none`."""
    torch.set_num_threads(1)
    table = Table("user_encoder", "a request", "above none", title=f"{CANDIDATES} candidates, one core")
    times = {name: request_ms(name) for name in get_args(_Name)}
    for name, taken in times.items():
        table.add_row(name, f"{taken:.2f} ms", f"{taken - times['none']:.2f} ms")
    console = Console()
    console.print(table)
    console.print(f"goal: sasrec adds at most {_GOAL_MS:g} ms")
    return 0


def request_ms(name: _Name) -> float:
    """Median CPU time of the frozen arm for one request, milliseconds."""
    torch.manual_seed(0)
    config = BackboneConfig(user_encoder=name)
    shape = BackboneShape(_ITEMS, _ITEMS, 40, 40, SLOTS_USER, SLOTS_ITEM, SIZES)
    backbone = FoundationBackbone(config, shape).freeze()
    batch = features(CANDIDATES, 1, _ITEMS)
    if config.history.length:
        batch = replace(batch, history=_full(config))
    domain = batch.domain.expand(CANDIDATES, -1)
    with torch.inference_mode():
        return median_ms(lambda: backbone.predict(round_representation(backbone.represent(batch)), domain))


def _full(config: BackboneConfig) -> History:
    length = config.history_length
    return History(
        row=torch.randint(_ITEMS, (length,)),
        text=torch.randn(length, config.text_width),
        event=torch.arange(length)[None],
        age=torch.rand(1, length) * 1e6,
        clicked=torch.ones(1, length, dtype=torch.int64),
        of=torch.zeros(1, dtype=torch.int64),
    )
