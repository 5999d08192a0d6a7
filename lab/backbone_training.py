"""Trains a backbone on the first half of a recording: all the code that decides what is made, and none that keeps it.

`lab.pretraining` keeps what is trained here under a hash of this module and of all that it imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.features import LiveFeatures
from features.live.first_rows import write_first_rows
from features.live.layout import Crossing, LiveLayout
from features.live.tasks import as_conversions
from features.text import TextEncoder
from lab.conversion_start import clicked_log, conversion_start
from lab.kernel_start import PretrainingLog, count_log, drift_reference, kernel_start
from model.backbone.checkpoint import save_backbone
from model.backbone.dataset import ProfileTable
from model.backbone.interface import FrozenBackbone
from model.backbone.pretrain import PretrainReport, TrainingProgress, pretrain_backbone
from model.config import NO_HISTORY
from model.drift.kept_reference import write_reference
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.query import QueryFeatures

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
    trained: Callable[[TrainingProgress], None],
) -> PretrainReport:
    """Pretrains on the first half of `data` and writes the backbone and its kernel start to `folder`.

    `encoded` is called with item texts (done, in all), `trained` with steps. Raises TextModelUnavailableError,
    TextWidthError, BackboneRefused or OSError.
    """
    users = [UserFeatures(user.user_id, user.fields) for user in data.users]
    items = encoded_items(config, data, encoded)
    queries = encoded_queries(config, data)
    space = config.domain_space()
    examples = data.examples(space)
    encoder = FeatureEncoder.fit(
        [users[index] for index in np.unique(examples.user)],
        [items[index] for index in np.unique(examples.item)],
        user_fields=config.features.user_fields,
        item_fields=config.features.item_fields,
        text_width=config.backbone.text_width,
    )
    with one_thread():
        backbone, report = pretrain_backbone(
            examples,
            users,
            items,
            encoder,
            domain_sizes=space.sizes,
            backbone=config.backbone,
            config=config.pretrain,
            progress=trained,
            queries=queries,
        )
        profiles = ProfileTable(encoder, users, items, queries)
        names = [user.user_id for user in users], [item.item_id for item in items]
        log = PretrainingLog.of(examples, *names, space, (profiles, encoder))
        held_out = np.array(report.held_out, dtype=np.float32)
        write_starts(config, folder, log, (backbone, profiles), held_out=held_out, encoder=encoder)
    card = {"data": f"{data.title}, first half by time", "pretrain": report.to_json()}
    save_backbone(folder, backbone, encoder, config.input_schema(), card)  # last: where a card is, all of it is
    return report


def write_starts(
    config: Config,
    folder: Path,
    log: PretrainingLog,
    pretrained: tuple[FrozenBackbone, ProfileTable],
    *,
    held_out: NDArray[np.float32],
    encoder: FeatureEncoder,
) -> None:
    """Writes the kernel start, the drift reference, and the first live rows of each group.

    A group counts the examples of its own domains, as in the live stream; `held_out` as for `kernel_start`.
    """
    crossing = Crossing.of(ItemValues(encoder), log.space)
    layout = LiveLayout.of(config.live, pretrained[0].content_width, crossing, config.backbone.history)
    start = kernel_start(log, LiveFeatures(layout, config.live), pretrained, held_out, config.kernel)
    converts = pretrained[0].has_conversion
    if converts:
        conversions = LiveFeatures(replace(layout, history=NO_HISTORY), config.live)
        start = replace(start, conversion=conversion_start(log, conversions, pretrained, config.kernel))
    start.save(folder)
    reference = drift_reference(log, pretrained, held_out, layout.history)
    if reference is not None:
        write_reference(folder, reference, pretrained[0].fingerprint)
    keys = np.array([domain.key for domain in log.space.domains()])[log.space.flat(log.examples.domain)]
    for group in config.groups:
        domains = config.domains_of(group.name)
        of_group = replace(log, examples=log.examples.select(np.flatnonzero(np.isin(keys, domains))))
        live = LiveFeatures(layout, config.live)
        count_log(live, of_group, of_group.examples.time)
        rows = live.rows()
        if converts:
            conversions, clicked = LiveFeatures(replace(layout, history=NO_HISTORY), config.live), clicked_log(of_group)
            count_log(conversions, clicked, clicked.examples.time)
            rows += as_conversions(conversions.rows())
        write_first_rows(folder, group.name, domains, rows)


def encoded_items(config: Config, data: Recording, encoded: Callable[[int, int], None]) -> list[ItemFeatures]:
    """The items with their text vectors; `encoded` is called with the progress. Raises as `train_backbone`."""
    text = TextEncoder(config.features.text_model, config.cache_dir, config.features.max_text)
    if text.width != config.backbone.text_width:
        raise TextWidthError(
            f"the text model {config.features.text_model!r} gives vectors of {text.width} numbers, but "
            f"backbone.text_width is {config.backbone.text_width}: set backbone.text_width = {text.width}"
        )
    vectors = text.encode([item.text for item in data.items], encoded)
    return [ItemFeatures(item.item_id, item.fields, vector) for item, vector in zip(data.items, vectors, strict=True)]


def encoded_queries(config: Config, data: Recording) -> list[QueryFeatures]:
    """Users' queries with text vectors, if the backbone reads queries. Raises TextModelUnavailableError."""
    asked = data.catalogue.queries if config.backbone.query_aspects else ()
    if not asked:
        return []
    vectors = TextEncoder(config.features.text_model, config.cache_dir, config.features.max_text).encode(asked)
    return [QueryFeatures(query, vector) for query, vector in zip(asked, vectors, strict=True)]


@contextmanager
def one_thread() -> Iterator[None]:
    """The steps are small: a second thread gains little, and waits ten times over where others use the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
