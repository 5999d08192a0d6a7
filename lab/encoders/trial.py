"""One user encoder on one stream and seed: pretrained once, its histories first frozen, then kept live."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from lab.encoders.slices import measure_users
from lab.evaluate.known_labels import live_histories
from lab.evaluate.label_times import decided_labels
from lab.evaluate.plan import ALL_ADAPTERS, KERNEL, Plan
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.prequential import run
from lab.evaluate.pretrained import Pretrained
from lab.evaluate.slices import SliceMeasures
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
CLUE = "-clue"
"""Ends the name of an encoder that CLUE teaches before the clicks do (`backbone.user_objective`)."""
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
    slices: dict[str, dict[str, SliceMeasures]]
    """Slices of the live half by its users, by arm and by the names in `lab.encoders.slices`."""


def with_encoder(backbone: BackboneConfig, encoder: str, delay_s: float) -> BackboneConfig:
    """The backbone with the user encoder of a name, which says by `CLUE` what teaches it before the clicks do.

    Raises ValueError where it can have none.
    """
    if encoder == NONE:
        return backbone.changed(user_encoder=NONE, user_objective="own")
    objective = "clue" if encoder.endswith(CLUE) else "own"
    return backbone.changed(user_encoder=encoder.removesuffix(CLUE), user_objective=objective, history_delay_s=delay_s)


def run_encoder_trial(plan: Plan, source: Source, seed: int, encoder: str, delay_s: float) -> EncoderTrial:
    """The trial of a user encoder whose histories in pretraining end `delay_s` early, unless it is kept."""
    limit_threads()
    backbone = with_encoder(plan.config.backbone, encoder, delay_s)
    plan = replace(plan, config=replace(plan.config, backbone=backbone))
    path = trial_path(plan, source, seed, __name__, "encoder")
    return kept_trial(path, EncoderTrial, lambda: _tried(plan, source, seed, encoder))


def _tried(plan: Plan, source: Source, seed: int, encoder: str) -> EncoderTrial:
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
    scored = list(_scored(plan, stream, pretrained, past, seed))
    return EncoderTrial(
        stream=source.name,
        seed=seed,
        encoder=encoder,
        delay_s=backbone.history_delay_s,
        figures={arm: _measured(data, logit) for arm, data, logit in scored},
        with_history={arm: _share(events) for arm, events in past.items()},
        request_ms=_request_ms(pretrained, chunk, past[FROZEN_LIVE]),
        pretrain_s=spent if made else None,
        slices={
            arm: measure_users(data.truth, logit, known, pretrained.log.examples, data.user)
            for arm, data, logit in scored
        },
    )


def _scored(
    plan: Plan, stream: Stream, pretrained: Pretrained, past: Mapping[str, PastEvents | None], seed: int
) -> Iterator[tuple[str, PreparedStream, NDArray[np.float32]]]:
    """Click logits of every arm that the backbone has, with what its user encoder reads in `past`."""
    over = {FROZEN: OVER_FROZEN, FROZEN_LIVE: OVER_LIVE}
    for arm in over if pretrained.layout.history.length else (FROZEN,):
        data = prepare(stream, pretrained, plan.config, past[arm])
        yield arm, data, data.frozen_logit
        kernel = ALL_ADAPTERS[KERNEL]
        adapter = kernel.build(adapter_context(plan, stream, pretrained, seed), kernel.rate)
        outcome = run(adapter, data, plan.config.training.batch_examples)
        yield over[arm], data, outcome.logit


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
        query = None if chunk.query is None else torch.from_numpy(chunk.query[request : request + 1])
        batch = profiles.batch(torch.from_numpy(chunk.user[request : request + 1]), candidates, domain, history, query)
        begun = time.process_time()
        backbone.predict(round_representation(backbone.represent(batch)), domain)
        taken.append(time.process_time() - begun)
    return 1e3 * median(taken)
