"""A shop whose scene `shorts` came up after its backbone was pretrained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from features.config import FeatureConfig
from lab.pretraining import run_pretrain
from lab.streams.choice import StreamChoice
from model.config import BackboneConfig, DomainConfig, FieldSpec, PretrainConfig
from streaming.config import Config

QUIET = Console(quiet=True)
SMALL = BackboneConfig(
    width=16, id_width=8, sparse_width=4, content_width=4, domain_width=4, experts=2, expert_hidden=16, expert_width=8,
    tower_hidden=8,
)  # fmt: skip
FIELDS = FeatureConfig(user_fields=(FieldSpec(name="job"),), item_fields=(FieldSpec(name="genre"),))


def shop_config(folder: Path, scenes: Sequence[str], run: str, **more: object) -> Config:
    """What is declared; the run's folder is `folder/run`."""
    return Config(
        run_dir=folder / run, cache_dir=folder, features=FIELDS, backbone=SMALL,
        domains=DomainConfig(scene=tuple(scenes), region=("all",)),
        pretrain=PretrainConfig(epochs=2, batch_size=64, validation_share=0.2), **more,
    )  # fmt: skip


def shop_log(folder: Path, name: str, scenes: Sequence[str], users: int, rows: int = 400) -> StreamChoice:
    """A log of ten items, those of `comedy` clicked more; users beyond the tenth have a job that no other has."""
    rng = np.random.default_rng(1)
    user, item, scene = (
        rng.integers(users, size=rows),
        rng.integers(10, size=rows),
        rng.integers(len(scenes), size=rows),
    )
    click = rng.random(rows) < np.where(item % 2 == 1, 0.6, 0.2)
    columns = zip(user, item, scene, click, strict=True)
    lines = [f"u{u},i{i},{1000 + 10 * n},{int(c)},{scenes[s]}" for n, (u, i, s, c) in enumerate(columns)]
    (folder / f"{name}.csv").write_text("\n".join(["user,item,time,click,scene", *lines]))
    jobs = [f"u{n},{'baker' if n >= 10 else 'cook'}" for n in range(users)]
    (folder / f"{name}-users.csv").write_text("\n".join(["user,job", *jobs]))
    (folder / "items.csv").write_text("item,genre\n" + "\n".join(f"i{n},{('war', 'comedy')[n % 2]}" for n in range(10)))
    mapping = folder / f"{name}.yaml"
    mapping.write_text(
        f"name: shop\nusers: {{path: {name}-users.csv, key: user, fields: {{job: {{}}}}}}\n"
        "items: {path: items.csv, key: item, fields: {genre: {}}}\n"
        f"interactions: {{path: {name}.csv, user: user, item: item, time: time, label: click, scene: scene}}\n"
    )
    return StreamChoice(log=folder / f"{name}.csv", mapping=str(mapping))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """Its folder: the backbone of the scene `home` is in `old/backbone`."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "text").symlink_to(cache_dir / "text")  # the language model's vectors are not what is tested here
    run_pretrain(shop_config(folder, ["home"], "old"), shop_log(folder, "old", ["home"], 10), console=QUIET)
    return folder
