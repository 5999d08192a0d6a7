"""Recorded replays of streams, to which any monitor can be applied in seconds."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.code_key import code_digest
from lab.detection.episodes import Episode, scripted_episodes
from lab.detection.scenarios import FAULTS, faulty
from lab.detection.score import Traffic
from lab.evaluate.plan import Plan
from lab.evaluate.pretrained import Pretrained
from lab.evaluate.work import ensure_pretrained, limit_threads, load_pretrained
from lab.kernel_start import represent_log
from lab.replay.half import LiveHalf, ReplayRequests
from lab.replay.record import Record, Recorder
from lab.replay.replay import replay
from lab.streams import ScriptedStream, Stream
from lab.streams.sources import Source
from model.gate.config import GateConfig
from model.whole_files import whole_file


@dataclass(frozen=True)
class HeldOut:
    """The newest part of the pretraining half, which the frozen model was judged on: what a reference is made of."""

    x: NDArray[np.float16]
    frozen: NDArray[np.float32]
    """Logits of a model that was not trained on it, `(n,)`."""
    label: NDArray[np.float32]
    domain: NDArray[np.int64]


@dataclass(frozen=True)
class Arms:
    """Logits that were served, in order, `(n,)`."""

    live: NDArray[np.float32]
    frozen: NDArray[np.float32]
    truth: NDArray[np.bool_]
    request: NDArray[np.int64]


@dataclass(frozen=True)
class RecordedStream:
    """The recorded replay of one stream and seed."""

    record: Record
    episodes: tuple[Episode, ...]
    traffic: Traffic
    window: HeldOut
    arms: Arms


_opened: dict[str, tuple[Stream, LiveHalf, Pretrained]] = {}
"""The live half that this process opened last: several faults are replayed on one."""


def pretrain(plan: Plan, source: Source, seed: int) -> None:
    """Trains the backbone of a stream and seed unless it is there."""
    limit_threads()
    ensure_pretrained(plan, source.open(seed, plan.cache_dir), seed)


def recorded_stream(plan: Plan, source: Source, seed: int, name: str) -> RecordedStream:
    """The recorded replay of the named stream behind the gate, from the plan's folder or replayed now."""
    limit_threads()
    path = _folder(plan, source, seed) / f"{name}.recording"
    if path.is_file():
        return _load(path)
    made = _record(plan, source, seed, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        pickle.dump(made, file, protocol=pickle.HIGHEST_PROTOCOL)
    return made


def _load(path: Path) -> RecordedStream:
    with path.open("rb") as file:
        read = pickle.load(file)
    assert isinstance(read, RecordedStream)
    return read


def _folder(plan: Plan, source: Source, seed: int) -> Path:
    """Replays of other code than today's are not reused."""
    digest = hashlib.sha256((plan.key + code_digest("lab.detection.recordings")).encode()).hexdigest()[:16]
    return plan.folder(source, seed) / digest


def _record(plan: Plan, source: Source, seed: int, name: str) -> RecordedStream:
    stream, half, pretrained = _open(plan, source, seed)
    episodes = scripted_episodes(stream) if isinstance(stream, ScriptedStream) else []
    requests = ReplayRequests.sound(half, (0, 0))
    if name in FAULTS:
        (half, requests), episode = faulty(name, half, pretrained, seed)
        episodes.append(episode)
    recorder, chunk = Recorder(), half.chunk
    examples = replay(half, requests, GateConfig(), recorder)
    return RecordedStream(
        recorder.record,
        tuple(episodes),
        Traffic(chunk.time, chunk.shown.sum(axis=1), chunk.domain, half.space),
        _window(pretrained),
        Arms(
            examples.live.astype(np.float32), examples.frozen.astype(np.float32), examples.truth > 0, examples.request
        ),
    )


def _open(plan: Plan, source: Source, seed: int) -> tuple[Stream, LiveHalf, Pretrained]:
    key = str(plan.folder(source, seed))
    if key not in _opened:
        _opened.clear()
        stream = source.open(seed, plan.cache_dir)
        pretrained = load_pretrained(plan, stream, seed)
        _opened[key] = stream, LiveHalf.of(stream, pretrained, plan.config), pretrained
    return _opened[key]


def _window(pretrained: Pretrained) -> HeldOut:
    held_out, log = pretrained.held_out, pretrained.log
    first = len(log.examples) - len(held_out)
    pairs = represent_log(log, (pretrained.backbone, pretrained.profiles), pretrained.layout.history, first)
    return HeldOut(pairs.x, held_out, log.examples.label[first:], log.examples.domain[first:])
