"""Trains a backbone on the first half of a recording: all the code that decides its weights, and none that keeps it.

`lab.pretraining` keeps what is trained here under a hash of this module and of all that it imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from features.text import TextEncoder
from model.backbone.checkpoint import save_backbone
from model.backbone.pretrain import PretrainReport, Progress, pretrain_backbone
from model.encoding.features import FeatureEncoder, ItemFeatures, UserFeatures

if TYPE_CHECKING:
    from lab.streams.recording import Recording
    from streaming.config import Config


class TextWidthError(Exception):
    """The text model and the backbone do not fit; the message names both keys and the cure."""


def train_backbone(
    config: Config,
    data: Recording,
    folder: Path,
    encoded: Callable[[int, int], None],
    trained: Callable[[Progress], None],
) -> PretrainReport:
    """Pretrains on the first half of `data` and writes the backbone to `folder`.

    `encoded` is told of item texts (done, of all), `trained` of steps. Raises TextModelUnavailableError,
    TextWidthError, BackboneRefused or OSError.
    """
    users = [UserFeatures(user.user_id, user.fields) for user in data.users]
    items = encoded_items(config, data, encoded)
    space = config.domain_space()
    examples = data.examples(space)
    encoder = FeatureEncoder.fit(
        [users[index] for index in np.unique(examples.user)],
        [items[index] for index in np.unique(examples.item)],
        user_fields=config.features.user_fields,
        item_fields=config.features.item_fields,
        text_width=config.backbone.text_width,
    )
    with _one_thread():
        backbone, report = pretrain_backbone(
            examples,
            users,
            items,
            encoder,
            domain_sizes=space.sizes,
            backbone=config.backbone,
            config=config.pretrain,
            progress=trained,
        )
    card = {"data": f"{data.title}, first half by time", "pretrain": report.to_json()}
    save_backbone(folder, backbone, encoder, config.input_schema(), card)
    return report


def encoded_items(config: Config, data: Recording, encoded: Callable[[int, int], None]) -> list[ItemFeatures]:
    """The items with their text vectors; `encoded` is told of them. Raises as `train_backbone`."""
    text = TextEncoder(config.features.text_model, config.cache_dir, config.features.max_text)
    if text.width != config.backbone.text_width:
        raise TextWidthError(
            f"the text model {config.features.text_model!r} gives vectors of {text.width} numbers, but "
            f"backbone.text_width is {config.backbone.text_width}: set backbone.text_width = {text.width}"
        )
    vectors = text.encode([item.text for item in data.items], encoded)
    return [ItemFeatures(item.item_id, item.fields, vector) for item, vector in zip(data.items, vectors, strict=True)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """The steps are small: a second thread gains little, and waits ten times over where others use the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
