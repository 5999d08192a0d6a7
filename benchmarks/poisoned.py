"""Kinds of poison that are put into the live half of a scripted stream."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lab.replay.half import LiveHalf, ReplayRequests

Poison = Literal["none", "labels flipped", "no clicks", "one user clicks nothing", "one user clicks everything"]
POISONS: tuple[Poison, ...] = get_args(Poison)
SHARE = 0.2
"""Share of the live half that is poisoned."""
_EARLIEST, _LATEST = 0.2, 0.45
"""Range of the poison's begin, as a share of the live half: 5 000 of 15 000 examples follow it."""
_BOT_REQUESTS = 9
"""Requests that the one user adds for every regular one: 90 % of the traffic."""


def span_of(requests: int, seed: int) -> tuple[int, int]:
    """The poisoned requests of a live half: where they begin is drawn by the seed."""
    begin = int(np.random.default_rng(seed).uniform(_EARLIEST, _LATEST) * requests)
    return begin, begin + int(SHARE * requests)


def poisoned(half: LiveHalf, poison: Poison, seed: int) -> ReplayRequests:
    """The live half with one thing wrong in it, or nothing."""
    replayed = ReplayRequests.sound(half, span_of(len(half.chunk), seed))
    inside = slice(*replayed.span)
    if poison == "labels flipped":
        replayed.click[inside] ^= True
    elif poison == "no clicks":
        replayed.click[inside] = False
    elif poison != "none":
        return _with_one_user(replayed, half.chunk.user, clicks=poison == "one user clicks everything", seed=seed)
    return replayed


def _with_one_user(replayed: ReplayRequests, user: NDArray[np.int64], *, clicks: bool, seed: int) -> ReplayRequests:
    """The user with the most requests before the span sends those again, nine for every request of the span."""
    begin, end = replayed.span
    heaviest = int(np.bincount(user[:begin]).argmax())
    requests, places = np.flatnonzero(user[:begin] == heaviest), np.arange(begin, end)
    added = np.random.default_rng(seed).choice(requests, (len(places), _BOT_REQUESTS)).ravel()
    between = places[:, None] - 1 + np.arange(1, _BOT_REQUESTS + 1) / (_BOT_REQUESTS + 1)
    place = np.concatenate([replayed.place, between.ravel()])
    order = np.argsort(place, kind="stable")
    origin, place = np.concatenate([replayed.origin, added])[order], place[order]
    click, truth = replayed.click[origin], replayed.truth[origin]
    bot = (user[origin] == heaviest) & (place > begin - 1) & (place < end)
    click[bot] = truth[bot] = clicks
    return ReplayRequests(
        origin,
        place,
        click,
        replayed.delay[origin],
        truth,
        user[origin] != heaviest,
        replayed.span,
        np.ones(len(origin)),
    )
