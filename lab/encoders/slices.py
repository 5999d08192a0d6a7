"""The live half in slices by its users: new or known to pretraining, and by how many of their clicks are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.known_labels import Labels
from lab.evaluate.slices import USER_SLICES, SliceMeasures, measure_slice
from model.backbone.examples import Examples

CLICK_SLICES = ("no click known", "1-10 clicks known", "more clicks known")
_FROM = (1, 11)
"""Known clicks from which the second and third of `CLICK_SLICES` begin."""
ALL_USERS = "all"


def measure_users(
    label: NDArray[np.float32],
    logit: NDArray[np.float32],
    known: Labels,
    pretraining: Examples,
    user: NDArray[np.int64],
) -> dict[str, SliceMeasures]:
    """Slices of the live half's `n` examples by name: all, `USER_SLICES` and `CLICK_SLICES`; the last two hold every
    example once each."""
    requests = len(known.begin) - 1
    request = np.repeat(np.arange(requests), np.diff(known.begin))
    seen = np.bincount(pretraining.user, minlength=int(user.max(initial=0)) + 1)[user] > 0
    band = np.digitize(clicks_before(known, pretraining), _FROM)[request]
    new, old = USER_SLICES
    masks = {ALL_USERS: np.ones(len(label), dtype=bool), new: ~seen, old: seen}
    masks |= {name: band == number for number, name in enumerate(CLICK_SLICES)}
    return {name: measure_slice(label[mask], logit[mask], request[mask]) for name, mask in masks.items()}


def clicks_before(known: Labels, pretraining: Examples) -> NDArray[np.int64]:
    """How many clicks of each request's user were known before it, `(r,)`: those of pretraining, and those that were
    decided in the live half. Late clicks are left out."""
    chunk = known.chunk
    request = np.repeat(np.arange(len(chunk.user)), np.diff(known.begin))
    clicked = request[known.label]
    users = int(max(chunk.user.max(initial=0), pretraining.user.max(initial=0))) + 1
    before = np.bincount(pretraining.user[pretraining.label > 0], minlength=users)[chunk.user]
    # Clicks are sorted by user and then by the batch that decides them, so one search counts those of earlier batches.
    span = int(max(known.decided.max(initial=0), known.batch.max(initial=0))) + 1
    decided = np.sort(chunk.user[clicked] * span + known.decided[clicked])
    first = np.searchsorted(decided, chunk.user * span)
    counted: NDArray[np.int64] = before + np.searchsorted(decided, chunk.user * span + known.batch) - first
    return counted
