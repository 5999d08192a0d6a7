"""Streams whose live half is a scene that pretraining never saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.streams import Chunk, Stream, find_script
from lab.streams.logged.logs import LoggedStream
from lab.streams.sources import Source, movielens_source
from model.encoding.domain import FACETS, DomainSpace

EXAMPLES = 2_000
"""Length of the curve in examples of the new scene."""
SCRIPTED, MOVIELENS_PART = "newcomers", "movielens-100k-zip9"
"""A script in which a scene comes up, and MovieLens 100K with the users of the American west held out as one."""
STREAMS = (SCRIPTED, MOVIELENS_PART)
SCENE, UNKNOWN_VALUE, HOME = 0, 0, 1
"""Index of the facet, and of its values: what is not known, and the one scene that the old backbone knows."""
_QUICK_REQUESTS = 2_500
"""Pretraining requests of the script in a short look."""


@dataclass(frozen=True)
class HeldOutPart:
    """The part of a stream that plays the new scene."""

    source: Source
    facet: str
    value: str


def open_scene(name: str, seed: int, cache_dir: Path, *, quick: bool) -> LoggedStream:
    """The stream of that name: a first half without the new scene, and the scene's requests as the live half.

    In its space the scene is `unknown`, which is what an old backbone takes it for.
    """
    part = held_out(name, quick=quick)
    return scene_of(part.source.open(seed, cache_dir), name, part.facet, part.value)


def scene_of(stream: Stream, name: str, facet: str, value: str) -> LoggedStream:
    """The stream with the requests that have `value` in `facet` as its new scene."""
    log, live = (Chunk.concat(list(stream.chunks(half))) for half in ("pretrain", "live"))
    first = stream.pretraining()
    space, at = stream.catalogue.space, FACETS.index(facet)
    index = space.values[facet].index(value)
    new = Chunk.concat([chunk.rows(chunk.domain[:, at] == index) for chunk in (log, live)])
    new = new.rows(slice(0, int(np.searchsorted(np.cumsum(new.shown.sum(axis=1)), EXAMPLES)) + 1))
    old, rated = (chunk.rows(chunk.domain[:, at] != index) for chunk in (log, first))
    new = replace(new, domain=_with(_with(new.domain, at, UNKNOWN_VALUE), SCENE, UNKNOWN_VALUE))
    old, rated = (replace(chunk, domain=_with(chunk.domain, SCENE, HOME)) for chunk in (old, rated))
    declared = {facet: space.values[facet][1:] for facet in FACETS}
    catalogue = replace(stream.catalogue, space=DomainSpace({**declared, "scene": ("home",)}))
    return LoggedStream(name, catalogue, Chunk.concat([old, new]), len(old), rated=rated)


def _with(domain: NDArray[np.int64], at: int, value: int) -> NDArray[np.int64]:
    """Facet indices with one value for all in a facet."""
    changed = domain.copy()
    changed[:, at] = value
    return changed


def held_out(name: str, *, quick: bool) -> HeldOutPart:
    """The part of that name; `quick` shortens a script."""
    if name == MOVIELENS_PART:
        return HeldOutPart(movielens_source(), "region", "zip9")
    script = find_script(name)
    fewer = {"pretrain_requests": _QUICK_REQUESTS} if quick else {}
    return HeldOutPart(Source(name, script=script.model_copy(update=fewer)), "scene", "shorts")
