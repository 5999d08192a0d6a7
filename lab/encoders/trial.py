"""One user encoder on one stream and seed: pretrained once, its histories first frozen, then kept live."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from lab.evaluate.known_labels import live_histories
from lab.evaluate.plan import ALL_ADAPTERS, KERNEL, Plan
from lab.evaluate.prepare import PreparedStream, Pretrained, decided_labels, prepare
from lab.evaluate.prequential import run
from lab.evaluate.trials import kept_trial, trial_path
from lab.evaluate.work import adapter_context, ensure_pretrained, limit_threads, load_pretrained
from lab.streams import Chunk, Stream
from lab.streams.sources import Source
from model.backbone.interface import round_representation
from model.config import BackboneConfig
from model.encoding.history import PastEvents
from model.evaluation import auc, grouped_auc, log_loss, sigmoid

FROZEN, FROZEN_LIVE = "frozen", "frozen, live history"
OVER_FROZEN, OVER_LIVE = "kernel", "kernel, live history"
ARMS = (FROZEN, FROZEN_LIVE, OVER_FROZEN, OVER_LIVE)
"""Without a live history, a user encoder reads the history as of the end of pretraining."""
NONE = "none"
"""The encoder that all are compared with."""
CANDIDATES = 100
_TIMED = 60
"""Requests that are timed, spread over the live half."""


@dataclass(frozen=True)
class ArmFigures:
    """Figures of one arm on the live half; every example is scored before anything learned from it."""

    request_auc: float
    auc: float
    log_loss: float


@dataclass(frozen=True)
class EncoderTrial:
    """One encoder on one stream and seed."""

    stream: str
    seed: int
    encoder: str
    delay_s: float
    """`backbone.history_delay_s`."""
    figures: dict[str, ArmFigures]
    """Figures by arm; encoder `none` has no arms with a live history."""
    with_history: dict[str, float]
    """Share of the live half's requests whose user has a history, by frozen arm."""
    request_ms: float
    """Median processor time of the frozen model for a request of `CANDIDATES`, with the live histories of the half."""
    pretrain_s: float | None
    """Processor time of pretraining; None where another stream with the same first half had it done."""


def with_encoder(backbone: BackboneConfig, encoder: str, delay_s: float) -> BackboneConfig:
    """The backbone with a user encoder; without one there is nothing that `user_objective` could teach.

    Raises ValueError where it can have none.
    """
    if encoder == NONE:
        return backbone.changed(user_encoder=NONE, user_objective="own")
    return backbone.changed(user_encoder=encoder, history_delay_s=delay_s)


def try_encoder(plan: Plan, source: Source, seed: int, encoder: str, delay_s: float) -> EncoderTrial:
    """The trial of a user encoder whose histories in pretraining end `delay_s` early, unless it is kept."""
    limit_threads()
    backbone = with_encoder(plan.config.backbone, encoder, delay_s)
    plan = replace(plan, config=replace(plan.config, backbone=backbone))
    path = trial_path(plan, source, seed, __name__, "encoder")
    return kept_trial(path, EncoderTrial, lambda: _tried(plan, source, seed))


def _tried(plan: Plan, source: Source, seed: int) -> EncoderTrial:
    stream = source.open(seed, plan.cache_dir)
    begun = time.process_time()
    made = ensure_pretrained(plan, stream, seed)
    spent = time.process_time() - begun
    pretrained, backbone = load_pretrained(plan, stream, seed), plan.config.backbone
    chunk = Chunk.concat(list(stream.chunks("live")))
    known = decided_labels(chunk, plan.config)
    past = {
        arm: live_histories(stream, pretrained, known, followed=arm == FROZEN_LIVE) for arm in (FROZEN, FROZEN_LIVE)
    }
    return EncoderTrial(
        stream=source.name,
        seed=seed,
        encoder=backbone.user_encoder,
        delay_s=backbone.history_delay_s,
        figures=dict(_figures(plan, stream, pretrained, past, seed)),
        with_history={arm: _share(one) for arm, one in past.items()},
        request_ms=_request_ms(pretrained, chunk, past[FROZEN_LIVE]),
        pretrain_s=spent if made else None,
    )


def _figures(
    plan: Plan, stream: Stream, pretrained: Pretrained, past: Mapping[str, PastEvents | None], seed: int
) -> Iterator[tuple[str, ArmFigures]]:
    """Every arm that the backbone has, with what its user encoder reads in `past`."""
    over = {FROZEN: OVER_FROZEN, FROZEN_LIVE: OVER_LIVE}
    for arm in over if pretrained.layout.history.length else (FROZEN,):
        data = prepare(stream, pretrained, plan.config, past[arm])
        yield arm, _measured(data, data.frozen_logit)
        kernel = ALL_ADAPTERS[KERNEL]
        adapter = kernel.build(adapter_context(plan, stream, pretrained, seed), kernel.rate)
        outcome = run(adapter, data, plan.config.training.batch_examples)
        yield over[arm], _measured(data, outcome.logit)


def _measured(data: PreparedStream, logit: NDArray[np.float32]) -> ArmFigures:
    return ArmFigures(
        grouped_auc(data.truth, logit, data.request),
        auc(data.truth, logit),
        log_loss(data.truth, sigmoid(logit)),
    )


def _share(past: PastEvents | None) -> float:
    return 0.0 if past is None else float((past.item[:, 0] >= 0).mean())


@torch.inference_mode()
def _request_ms(pretrained: Pretrained, chunk: Chunk, past: PastEvents | None) -> float:
    backbone, profiles = pretrained.backbone, pretrained.profiles
    candidates = torch.arange(CANDIDATES) % len(profiles.item)
    first = np.cumsum(chunk.shown.sum(axis=1)) - chunk.shown.sum(axis=1)
    taken = []
    for request in np.linspace(0, len(chunk) - 1, _TIMED).astype(np.int64).tolist():
        domain = torch.from_numpy(chunk.domain[request : request + 1])
        history = None if past is None else profiles.history(past, torch.from_numpy(first[request : request + 1]))
        asked = None if chunk.query is None else torch.from_numpy(chunk.query[request : request + 1])
        batch = profiles.batch(torch.from_numpy(chunk.user[request : request + 1]), candidates, domain, history, asked)
        begun = time.process_time()
        backbone.predict(round_representation(backbone.represent(batch)), domain)
        taken.append(time.process_time() - begun)
    return 1e3 * median(taken)
