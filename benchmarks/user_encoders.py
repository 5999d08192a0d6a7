"""Time that user encoders add to the models' time of 100 candidates with a full history, and that two towers save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.kernel_cost import CANDIDATES, SIZES, SLOTS_ITEM, SLOTS_USER, features, median_ms
from model.backbone.dssm import DssmBackbone, make_foundation
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import round_representation
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.features import FeatureBatch
from model.encoding.history import History

_ITEMS = 10_000
_GOAL_MS = 2.0
_Name = Literal["none", "pool", "gru4rec", "nextitnet", "sasrec", "bert4rec"]
Represent = Callable[[], Tensor]


def main() -> int:
    """Prints the median CPU time of a request by user encoder, and by trunk and what is kept."""
    torch.set_num_threads(1)
    console = Console()
    console.print(_encoders())
    console.print(f"goal: sasrec adds at most {_GOAL_MS:g} ms")
    console.print(_towers())
    return 0


def _encoders() -> Table:
    table = Table("user_encoder", "a request", "above none", title=f"{CANDIDATES} candidates, one core")
    times = {name: _whole_ms(BackboneConfig(user_encoder=name)) for name in get_args(_Name)}
    for name, taken in times.items():
        table.add_row(name, f"{taken:.2f} ms", f"{taken - times['none']:.2f} ms")
    return table


def _towers() -> Table:
    """A scorer keeps both vectors of two towers; the first request of a user, and of an item, has to make them."""
    table = Table("trunk", "kept", "no encoder", "sasrec", title="Two towers, the same requests")
    names: tuple[_Name, _Name] = ("none", "sasrec")
    default = [_whole_ms(BackboneConfig(user_encoder=name)) for name in names]
    table.add_row(BackboneConfig().trunk, "", *(f"{taken:.2f} ms" for taken in default))
    made = [_kept_ms(BackboneConfig(user_encoder=name, trunk="dssm")) for name in names]
    for kept in made[0]:
        table.add_row("dssm", kept, *(f"{times[kept]:.2f} ms" for times in made))
    return table


def _whole_ms(config: BackboneConfig) -> float:
    """Median CPU time of the frozen arm for one request, milliseconds."""
    backbone, batch = _request(config)
    return request_ms(backbone, batch, partial(backbone.represent, batch))


def _kept_ms(config: BackboneConfig) -> dict[str, float]:
    """Time with two towers, by which vectors are cached."""
    towers, batch = _request(config)
    assert isinstance(towers, DssmBackbone)
    with torch.inference_mode():
        user, item = towers.user_vector(batch), towers.item_vector(batch)
    ways: dict[str, Represent] = {
        "nothing": lambda: towers.represent(batch),
        "the user": lambda: torch.cat([user.expand(CANDIDATES, -1), towers.item_vector(batch)], dim=1),
        "the items": lambda: torch.cat([towers.user_vector(batch).expand(CANDIDATES, -1), item], dim=1),
        "both": lambda: torch.cat([user.expand(CANDIDATES, -1), item], dim=1),
    }
    return {kept: request_ms(towers, batch, way) for kept, way in ways.items()}


def _request(config: BackboneConfig) -> tuple[FoundationBackbone, FeatureBatch]:
    torch.manual_seed(0)
    shape = BackboneShape(_ITEMS, _ITEMS, 40, 40, SLOTS_USER, SLOTS_ITEM, SIZES)
    backbone, batch = make_foundation(config, shape).freeze(), features(CANDIDATES, 1, _ITEMS)
    return backbone, replace(batch, history=full_history(config)) if config.history.length else batch


def request_ms(backbone: FoundationBackbone, batch: FeatureBatch, represent: Represent) -> float:
    """Median CPU time of one request whose representation `represent` makes, milliseconds."""
    domain = batch.domain.expand(CANDIDATES, -1)
    with torch.inference_mode():
        return median_ms(lambda: backbone.predict(round_representation(represent()), domain))


def full_history(config: BackboneConfig) -> History:
    """A user's history with an event at every place."""
    length = config.history_length
    return History(
        row=torch.randint(_ITEMS, (length,)),
        text=torch.randn(length, config.text_width),
        event=torch.arange(length)[None],
        age=torch.rand(1, length) * 1e6,
        clicked=torch.ones(1, length, dtype=torch.int64),
        of=torch.zeros(1, dtype=torch.int64),
    )
