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

from lab.progress import bars, reporter
from lab.streams.recording import Profiles, Recording
from streaming.config import Config

if TYPE_CHECKING:
    from lab.streams.choice import StreamChoice
    from model.encoding.features import ItemFeatures, UserFeatures

log = logging.getLogger(__name__)


class TextWidthError(Exception):
    """The text model and the backbone do not fit; the message names both keys and the cure."""


def backbone_key(config: Config, data: Recording) -> str:
    """Name of the backbone that `config` and `data` make: a hash of both and of the code that makes it."""
    from model.backbone.own import factory_digest

    digest = hashlib.sha256()
    for section in (config.backbone, config.pretrain, config.domains):
        digest.update(section.model_dump_json().encode())
    features = config.features.model_dump(mode="json", include={"text_model", "max_text", "user_fields", "item_fields"})
    digest.update(json.dumps(features, sort_keys=True).encode())
    for part in data.identity():
        digest.update(part)
    for source in _sources():
        digest.update(source.read_bytes())
    digest.update(factory_digest(config.backbone.factory).encode())
    return digest.hexdigest()[:20]


def _sources() -> list[Path]:
    """The modules of `model` that pretraining runs: `pretrain` and all it imports."""
    import model

    root = Path(model.__file__).parents[1]
    found: set[Path] = set()
    waiting = [root / "model/backbone/pretrain.py"]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        nodes = ast.walk(ast.parse(path.read_text()))
        imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        waiting += [root / f"{name.replace('.', '/')}.py" for name in imported if name.startswith("model.")]
    return sorted(found)


def pretrained_backbone(config: Config, data: Recording, console: Console) -> Path:
    """Folder of the pretrained backbone in the cache; it is trained first if it is not there.

    Raises TextModelUnavailableError, TextWidthError, BackboneRefused, or OSError if the cache cannot be written.
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


def run_pretrain(config: Config, choice: StreamChoice, *, console: Console | None = None) -> int:
    """`driftline pretrain`: puts the pretrained backbone where the processes look for it; returns an exit code.

    Raises StreamError if the stream is wrong or the configuration does not declare what it holds.
    """
    from lab.streams.choice import open_recording
    from lab.streams.fit import ensure_fits

    console = console or Console(stderr=True)
    recording = open_recording(config, choice, console)
    ensure_fits(config, recording, choice.arguments)
    made = pretrained_backbone(config, recording, console)
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


def _make(config: Config, data: Recording, folder: Path, console: Console) -> None:
    from model.backbone.checkpoint import save_backbone
    from model.backbone.pretrain import Progress, train_backbone
    from model.encoding.features import FeatureEncoder

    with bars(console) as progress:
        text_bar = progress.add_task(
            "titles", total=len(data.items), note=f"text vectors by {config.features.text_model}"
        )
        users, items = _profiles(config, data, reporter(progress, text_bar))
        progress.update(text_bar, completed=len(items))
        bar = progress.add_task("backbone", total=None, note="pretraining")
        examples = data.examples(config.domain_space())
        encoder = FeatureEncoder.fit(
            [users[place] for place in np.unique(examples.user)],
            [items[place] for place in np.unique(examples.item)],
            user_fields=config.features.user_fields,
            item_fields=config.features.item_fields,
            text_width=config.backbone.text_width,
        )

        def moved(at: Progress) -> None:
            progress.update(
                bar, completed=at.step, total=at.steps, note=f"pass {at.epoch}, validation AUC {at.validation_auc:.4f}"
            )

        with _one_thread():
            backbone, report = train_backbone(
                examples,
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
    card = {"data": f"{data.title}, first half by time", "pretrain": report.to_json()}
    save_backbone(folder, backbone, encoder, config.input_schema(), card)


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
    config: Config, data: Profiles, progress: Callable[[int, int], None]
) -> tuple[list[UserFeatures], list[ItemFeatures]]:
    from features.text import TextEncoder
    from model.encoding.features import ItemFeatures, UserFeatures

    text = TextEncoder(config.features.text_model, config.cache_dir, config.features.max_text)
    if text.width != config.backbone.text_width:
        raise TextWidthError(
            f"the text model {config.features.text_model!r} gives vectors of {text.width} numbers, but "
            f"backbone.text_width is {config.backbone.text_width}: set backbone.text_width = {text.width}"
        )
    vectors = text.encode([item.text for item in data.items], progress)
    users = [UserFeatures(user.user_id, user.fields) for user in data.users]
    items = [ItemFeatures(item.item_id, item.fields, vectors[place]) for place, item in enumerate(data.items)]
    return users, items
