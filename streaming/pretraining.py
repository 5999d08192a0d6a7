"""Pretrains the backbone once per configuration and data, and keeps it in the cache."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from features.movielens import SCENE as MOVIELENS_SCENE
from features.movielens import MovieLens, Rating, period_of
from model.domain import Domain
from streaming.config import Config
from streaming.progress import bars, reporter

if TYPE_CHECKING:
    from model.dataset import Examples
    from model.features import ItemFeatures, UserFeatures

log = logging.getLogger(__name__)

_MADE_OF = (
    "alignment", "backbone", "batch", "content", "dataset", "features", "fusion", "losses", "pretrain", "trainer",
    "trunk", "vocabulary",
)  # fmt: skip
"""Modules of `model` whose code decides what pretraining makes."""


def backbone_key(config: Config, data: MovieLens) -> str:
    """Name of the backbone that `config` and `data` make: a hash of both and of the code that makes it."""
    digest = hashlib.sha256()
    for section in (config.backbone, config.pretrain, config.domains):
        digest.update(section.model_dump_json().encode())
    features = config.features.model_dump(mode="json", include={"text_model", "max_text", "user_fields", "item_fields"})
    digest.update(json.dumps(features, sort_keys=True).encode())
    for profile in (*data.users, *data.items):
        digest.update(repr(profile).encode())
    for rating in data.half("pretrain"):
        digest.update(f"{rating.time} {rating.user_id} {rating.item_id} {rating.rating}\n".encode())
    for source in _sources():
        digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def _sources() -> list[Path]:
    """The modules of `model` that pretraining runs: `pretrain` and all it imports."""
    import model

    folder = Path(model.__file__).parent
    found: set[Path] = set()
    waiting = [folder / "pretrain.py"]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        nodes = ast.walk(ast.parse(path.read_text()))
        imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        waiting += [folder / f"{name.removeprefix('model.')}.py" for name in imported if name.startswith("model.")]
    return sorted(found)


def pretrained_backbone(config: Config, data: MovieLens, console: Console) -> Path:
    """Folder of the pretrained backbone in the cache; it is trained first if it is not there.

    Raises TextModelUnavailableError, or OSError if the cache cannot be written.
    """
    folder = config.cache_dir / "backbones" / backbone_key(config, data)
    if (folder / "card.json").is_file():
        log.info("backbone: taken from %s", folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        _make(config, data, scratch, console)
        if not folder.exists():
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def run_pretrain(config: Config, *, archive: Path | None = None, console: Console | None = None) -> int:
    """`driftline pretrain`: puts the pretrained backbone where the processes look for it; returns an exit code."""
    from streaming.replay.run import load_data

    console = console or Console(stderr=True)
    made = pretrained_backbone(config, load_data(config, console, archive), console)
    install_backbone(made, config.backbone_dir)
    console.print(f"backbone: {config.backbone_dir}", highlight=False, soft_wrap=True)
    return 0


def install_backbone(made: Path, place: Path) -> None:
    """Copies a backbone's folder to `place`, replacing what is there; whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    shutil.copytree(made, scratch, dirs_exist_ok=True)
    if place.exists():
        shutil.rmtree(place)
    scratch.rename(place)


def _make(config: Config, data: MovieLens, folder: Path, console: Console) -> None:
    from model.checkpoint import save_backbone
    from model.features import FeatureEncoder
    from model.pretrain import Progress, pretrain

    with bars(console) as progress:
        text_bar = progress.add_task(
            "titles", total=len(data.items), note=f"text vectors by {config.features.text_model}"
        )
        users, items = _profiles(config, data, reporter(progress, text_bar))
        progress.update(text_bar, completed=len(items))
        bar = progress.add_task("backbone", total=None, note="pretraining")
        seen_users = {rating.user_id for rating in data.half("pretrain")}
        seen_items = {rating.item_id for rating in data.half("pretrain")}
        encoder = FeatureEncoder.fit(
            [user for user in users if user.user_id in seen_users],
            [item for item in items if item.item_id in seen_items],
            user_fields=config.features.user_fields,
            item_fields=config.features.item_fields,
            text_width=config.backbone.text_width,
        )

        def moved(at: Progress) -> None:
            progress.update(
                bar, completed=at.step, total=at.steps, note=f"pass {at.epoch}, validation AUC {at.validation_auc:.4f}"
            )

        with _one_thread():
            backbone, report = pretrain(
                _examples(config, data, users, items),
                users,
                items,
                encoder,
                domain_sizes=config.domain_space().sizes,
                backbone=config.backbone,
                config=config.pretrain,
                progress=moved,
            )
        note = f"best of {report.epochs} passes: validation AUC {report.validation_auc:.4f}"
        progress.update(bar, total=progress.tasks[bar].completed, note=note)
    card = {"data": "MovieLens 100K, first half by time", "pretrain": report.to_json()}
    save_backbone(folder, backbone, encoder, card)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The steps are small: a second thread gains little, and where others use the cores too it waits ten times over."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _profiles(
    config: Config, data: MovieLens, progress: Callable[[int, int], None]
) -> tuple[list[UserFeatures], list[ItemFeatures]]:
    from features.text import TextEncoder
    from model.features import ItemFeatures, UserFeatures

    text = TextEncoder(config.features.text_model, config.cache_dir, config.features.max_text)
    vectors = text.encode([item.text for item in data.items], progress)
    users = [UserFeatures(user.user_id, user.fields) for user in data.users]
    items = [ItemFeatures(item.item_id, item.fields, vectors[place]) for place, item in enumerate(data.items)]
    return users, items


def _examples(config: Config, data: MovieLens, users: list[UserFeatures], items: list[ItemFeatures]) -> Examples:
    from model.dataset import Examples

    ratings = data.half("pretrain")
    user_place = {user.user_id: place for place, user in enumerate(users)}
    item_place = {item.item_id: place for place, item in enumerate(items)}
    return Examples(
        user=np.array([user_place[rating.user_id] for rating in ratings], dtype=np.int64),
        item=np.array([item_place[rating.item_id] for rating in ratings], dtype=np.int64),
        domain=config.domain_space().encode_many([_domain(data, rating) for rating in ratings]),
        label=np.array([rating.click for rating in ratings], dtype=np.float32),
        time=np.array([rating.time for rating in ratings], dtype=np.float64),
    )


def _domain(data: MovieLens, rating: Rating) -> Domain:
    return Domain(MOVIELENS_SCENE, data.regions.get(rating.user_id, "other"), period_of(rating.time))
