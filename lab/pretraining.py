"""Pretrains the backbone once per configuration, data and code, and keeps it in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lab.code_key import code_digest
from lab.progress import bars, reporter
from lab.streams import ensure_learnable
from lab.streams.recording import Recording
from model.backbone.schema import CARD
from model.whole_files import changed_files, whole_folder, write_digests
from streaming.config import Config

if TYPE_CHECKING:
    from lab.streams.choice import StreamChoice
    from model.backbone.pretrain import TrainingProgress

log = logging.getLogger(__name__)


def backbone_key(config: Config, data: Recording) -> str:
    """Name of the backbone that `config` and `data` make: a hash of both and of the code that makes it."""
    from model.backbone.custom import factory_digest

    digest = hashlib.sha256()
    for section in (config.backbone, config.pretrain, config.domains, config.kernel, config.live, *config.groups):
        digest.update(section.model_dump_json().encode())
    features = config.features.model_dump(mode="json", include={"text_model", "max_text", "user_fields", "item_fields"})
    digest.update(json.dumps(features, sort_keys=True).encode())
    for part in data.identity():
        digest.update(part)
    digest.update(code_digest("lab.backbone_training", type(data).__module__).encode())
    digest.update(factory_digest(config.backbone.factory).encode())
    return digest.hexdigest()[:20]


def pretrained_backbone(config: Config, data: Recording, console: Console) -> Path:
    """Folder of the pretrained backbone in the cache; it is trained first if it is not there, or not as it was made.

    Raises StreamError where it is to learn what `data` knows nothing of, TextModelUnavailableError,
    TextWidthError, BackboneRefused, or OSError if the cache cannot be written.
    """
    ensure_learnable(config.backbone, data.stream)
    folder = config.cache_dir / "backbones" / backbone_key(config, data)
    if (folder / CARD).is_file():
        changed = changed_files(folder)
        if not changed:
            log.info("backbone: taken from %s", folder)
            return folder
        log.warning("%s in the cache is damaged (%s); the backbone is trained again", folder, ", ".join(changed))
        shutil.rmtree(folder)
    with whole_folder(folder, finished=CARD) as scratch:
        _make(config, data, scratch, console)
        write_digests(scratch)
    return folder


def run_pretrain(config: Config, choice: StreamChoice, *, console: Console | None = None) -> int:
    """`driftline pretrain`: puts the pretrained backbone where the processes look for it; returns an exit code.

    Raises StreamError if the stream is wrong or the configuration does not declare what it holds.
    """
    from lab.streams.choice import open_recording
    from lab.streams.fit import ensure_fits

    console = console or Console(stderr=True)
    recording = open_recording(config, choice, console)
    ensure_fits(config, recording, choice)
    made = pretrained_backbone(config, recording, console)
    install_backbone(made, config.backbone_dir)
    console.print(f"backbone: {config.backbone_dir}", highlight=False, soft_wrap=True)
    return 0


def install_backbone(made: Path, target: Path) -> None:
    """Copies a backbone's folder to `target`, replacing what is there; whole or not at all."""
    with whole_folder(target) as scratch:
        shutil.copytree(made, scratch, dirs_exist_ok=True)


def _make(config: Config, data: Recording, folder: Path, console: Console) -> None:
    from lab.backbone_training import train_backbone

    with bars(console) as progress:
        texts = progress.add_task("titles", total=len(data.items), note=f"text vectors by {config.features.text_model}")
        steps = progress.add_task("backbone", total=None, note="pretraining")

        def trained(at: TrainingProgress) -> None:
            note = f"pass {at.epoch}, validation AUC {at.validation_auc:.4f}"
            progress.update(steps, completed=at.step, total=at.steps, note=note)

        report = train_backbone(config, data, folder, reporter(progress, texts), trained)
        progress.update(texts, completed=len(data.items))
        passes = f"best of {report.epochs} passes: " if report.epochs else ""  # a custom backbone counts them itself
        note = f"{passes}validation AUC {report.validation_auc:.4f}"
        progress.update(steps, total=progress.tasks[steps].completed, note=note)
