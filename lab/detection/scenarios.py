"""The streams that detectors are tried on: drift scripts, the one without drift with a fault put in, and MovieLens."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lab.detection.episodes import Episode, Origin
from lab.evaluate.pretrained import Pretrained
from lab.replay.half import LiveHalf, ReplayRequests
from lab.represented import represent_pairs
from lab.streams.logged.movielens_stream import MOVIELENS, MOVIELENS_SESSIONS
from lab.streams.sources import NamedStreams, Source, choose, movielens_source
from model.encoding.profile import UserFeatures

Faulty = tuple[LiveHalf, ReplayRequests]
NO_DRIFT = "no-drift"
SHARE = 0.25
"""Share of the live half that a fault lasts: 3 750 examples."""
_EARLIEST, _LATEST = 0.3, 0.5
"""Range of the fault's begin, as a share of the live half."""
REAL = (MOVIELENS, MOVIELENS_SESSIONS)
"""Streams whose users rate many items in a row, where verdicts of wrong labels or a broken kernel are false."""
LONG_REQUESTS = 20_000
"""Length of the stream without drift: false alarms are so rare that a stream of the usual length would show none."""


@dataclass(frozen=True)
class Fault:
    """A fault that is put into a live half."""

    cause: Origin
    about: str
    put: Callable[[LiveHalf, ReplayRequests, Pretrained], Faulty]


@dataclass(frozen=True)
class Scenario:
    """A stream on which detectors are scored, with a fault or without."""

    name: str
    source: Source
    fault: str = ""
    """Name in `FAULTS`; empty for a script without a fault."""


def scenarios(named: NamedStreams) -> list[Scenario]:
    """The streams that are named; or of a suite the scripts, the faults, and real streams without a fault.

    Raises StreamError.
    """
    if named != NamedStreams(named.suite):
        return [Scenario(source.name, _long(source)) for source in choose(named, quick=False)]
    suite = NamedStreams(named.suite or "scripted")
    sources = [_long(source) for source in choose(suite, quick=False) if source.script is not None]
    still = next(source for source in choose(NamedStreams("scripted"), quick=False) if source.name == NO_DRIFT)
    return [
        *(Scenario(stream.name, stream) for stream in sources),
        *(Scenario(name, still, name) for name in FAULTS),
        *(Scenario(name, movielens_source(name)) for name in REAL),
    ]


def _long(source: Source) -> Source:
    script = source.script
    if script is None or source.name != NO_DRIFT:
        return source
    factor = LONG_REQUESTS / script.requests
    return replace(source, script=script.model_copy(update={"requests": LONG_REQUESTS, "days": script.days * factor}))


def faulty(name: str, half: LiveHalf, pretrained: Pretrained, seed: int) -> tuple[Faulty, Episode]:
    """A live half with a fault in a stretch that the seed draws."""
    requests, fault = len(half.chunk), FAULTS[name]
    begin = int(np.random.default_rng(seed).uniform(_EARLIEST, _LATEST) * requests)
    span = begin, begin + int(SHARE * requests)
    put = fault.put(half, ReplayRequests.sound(half, span), pretrained)
    time = half.chunk.time
    return put, Episode(name, fault.cause, time[span[0]], time[span[0]], time[span[1]], 1.0, {})


def _flipped(half: LiveHalf, replayed: ReplayRequests, _: Pretrained) -> Faulty:
    replayed.click[slice(*replayed.span)] ^= True
    return half, replayed


def _dropped(half: LiveHalf, replayed: ReplayRequests, _: Pretrained) -> Faulty:
    replayed.click[slice(*replayed.span)] = False
    return half, replayed


def _late(half: LiveHalf, replayed: ReplayRequests, _: Pretrained) -> Faulty:
    replayed.delay[slice(*replayed.span)] *= 1_000.0
    return half, replayed


def _kernel_times(gain: float) -> Callable[[LiveHalf, ReplayRequests, Pretrained], Faulty]:
    def put(half: LiveHalf, replayed: ReplayRequests, _: Pretrained) -> Faulty:
        replayed.gain[slice(*replayed.span)] = gain
        return half, replayed

    return put


def _span_examples(half: LiveHalf, replayed: ReplayRequests) -> slice:
    edges = np.concatenate([[0], np.cumsum(half.chunk.shown.sum(axis=1))])
    return slice(int(edges[replayed.span[0]]), int(edges[replayed.span[1]]))


def _domains(half: LiveHalf) -> NDArray[np.int64]:
    return half.chunk.domain[np.nonzero(half.chunk.shown)[0]]


def _permuted(half: LiveHalf, replayed: ReplayRequests, pretrained: Pretrained) -> Faulty:
    """Swaps columns of the representation, so that every second column is at another's place."""
    part, x = _span_examples(half, replayed), half.pairs.x.copy()
    columns = np.arange(0, x.shape[1], 2)
    x[part, columns[:, None]] = x[part, np.roll(columns, 1)[:, None]]
    return _logits_of(half, pretrained, x, part), replayed


def _logits_of(half: LiveHalf, pretrained: Pretrained, x: NDArray[np.float16], part: slice) -> LiveHalf:
    """A live half with another representation in `part`, as the frozen model scores it."""
    logit = half.pairs.frozen_logit.copy()
    with torch.inference_mode():
        inputs, domain = torch.from_numpy(x[part].astype(np.float32)), torch.from_numpy(_domains(half)[part])
        logit[part] = pretrained.backbone.predict(inputs, domain)[:, 0].numpy()
    return replace(half, pairs=replace(half.pairs, x=x, frozen_logit=logit))


def _empty(half: LiveHalf, replayed: ReplayRequests, pretrained: Pretrained) -> Faulty:
    """Profiles of users come without a field, as after a store that lost them."""
    profiles, nobody = copy.copy(pretrained.profiles), pretrained.encoder.encode_user(UserFeatures("", {}))
    count = len(profiles.user)
    profiles.user = torch.full((count,), nobody.row, dtype=torch.int64)
    profiles.user_sparse = torch.from_numpy(nobody.sparse).expand(count, -1)
    profiles.user_weight = torch.from_numpy(nobody.weight).expand(count, -1)
    row, column = np.nonzero(half.chunk.shown)
    part = _span_examples(half, replayed)
    row, column = row[part], column[part]
    user, item, domain = half.chunk.user[row], half.chunk.items[row, column], half.chunk.domain[row]
    past = None if half.past is None else half.past.of_pairs(part)
    x = half.pairs.x.copy()
    query = half.chunk.query_of(row)
    x[part] = represent_pairs(pretrained.backbone, profiles, user, item, domain, past, query).x
    return _logits_of(half, pretrained, x, part), replayed


def _scaled(half: LiveHalf, replayed: ReplayRequests, _: Pretrained) -> Faulty:
    logit = half.pairs.frozen_logit.copy()
    logit[_span_examples(half, replayed)] *= 3.0
    return replace(half, pairs=replace(half.pairs, frozen_logit=logit)), replayed


FAULTS: Mapping[str, Fault] = {
    "labels-flipped": Fault(Origin.LABELS, "Every label is turned over.", _flipped),
    "labels-dropped": Fault(Origin.LABELS, "No click arrives.", _dropped),
    "labels-late": Fault(Origin.LABELS, "Clicks take 5 000 s in place of 5: most come behind their window.", _late),
    "inputs-permuted": Fault(Origin.INPUTS, "Every second column of x stands where another should.", _permuted),
    "inputs-empty": Fault(Origin.INPUTS, "Users come without their fields.", _empty),
    "scores-scaled": Fault(Origin.INPUTS, "The frozen model's logits are three times too large.", _scaled),
    "kernel-overdone": Fault(Origin.OURS, "Every kernel moves the logits four times too far.", _kernel_times(4.0)),
    "kernel-turned": Fault(Origin.OURS, "Every kernel moves them twice as far the wrong way.", _kernel_times(-2.0)),
}
"""Scenarios by the name of the stream."""
