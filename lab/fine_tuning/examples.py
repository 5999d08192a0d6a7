"""The training examples of a new scene: its own examples in both halves of a stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.fine_tuning.origin import TransferRefused
from lab.streams import Chunk
from lab.streams.recording import Recording, recoded
from model.backbone.examples import Examples
from model.encoding.domain import DomainSpace


def scene_examples(recording: Recording, space: DomainSpace, scene: str, limit: int | None = None) -> Examples:
    """The shown items of a scene with the labels as they were logged, in time order; the first `limit` of them.

    Indices point into the recording's users and items; domains are those of `space`. Raises TransferRefused if there
    are none.
    """
    stream, full_space = recording.stream, recording.catalogue.space
    if scene not in full_space.values["scene"]:
        raise TransferRefused(
            f"{recording.title} has no examples of the scene {scene!r}: its scenes are "
            f"{', '.join(full_space.values['scene'][1:]) or 'none'}"
        )
    index = full_space.values["scene"].index(scene)
    parts = [_examples(chunk, index) for chunk in (stream.pretraining(), *stream.chunks("live"))]
    found = Examples(**{name: np.concatenate([part[name] for part in parts])[:limit] for name in parts[0]})
    if not len(found):
        raise TransferRefused(f"{recording.title} has no examples of the scene {scene!r}, though it knows its name")
    return replace(found, domain=recoded(found.domain, full_space, space))


def _examples(chunk: Chunk, scene: int) -> dict[str, NDArray[Any]]:
    row, column = np.nonzero(chunk.shown & (chunk.domain[:, 0] == scene)[:, None])
    return {
        "user": chunk.user[row],
        "item": chunk.items[row, column],
        "domain": chunk.domain[row],
        "label": chunk.click[row, column].astype(np.float32),
        "time": chunk.time[row],
        **chunk.more_labels(row, column),
    }
