"""One frozen backbone for a stream, a seed, a text encoder, and a way of knowing items; measured by slices."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.text import TextEncoder
from lab.evaluate.config import EvaluationConfig
from lab.evaluate.plan import Plan
from lab.evaluate.pretrained import TrainedBackbone, train_backbone_on
from lab.evaluate.slices import PretrainingCounts, SliceMeasures, measure_slice, measure_slices
from lab.evaluate.trials import kept_trial
from lab.evaluate.work import limit_threads
from lab.represented import represent_pairs
from lab.streams import Chunk, Stream
from lab.streams.sources import Source
from lab.text_models.encoders import TextModel, text_encoder
from lab.text_models.tuned import Tuning
from model.backbone.foundation import FoundationBackbone

ALL = "all"
"""The live half as a whole, beside its slices."""
BY = {"id": ("id",), "text": ("text",), "both": ("id", "text")}
"""Ways of knowing items, as values of `backbone.item_aspects`."""
ANEW = ", then a new backbone"
"""Ends the name of a tuned encoder that is frozen, with a backbone pretrained on its vectors."""
TRIAL = "lab.text_models.trial"
"""The module whose code, with everything it imports, decides the result of a trial."""


@dataclass(frozen=True)
class TextTrial:
    """One frozen backbone on one stream and seed."""

    stream: str
    seed: int
    model: str
    """Text encoder; empty where items are known by id alone."""
    by: str
    """A name in `BY`."""
    cpu_s: float
    """Processor seconds of its pretraining."""
    slices: dict[str, SliceMeasures]
    """Slices of the live half, with `ALL` for the whole."""
    folder: str = ""
    """The tuned encoder's folder; empty where the encoder is frozen."""
    anew: TextTrial | None = None
    """A second backbone, pretrained on the frozen vectors of the encoder that was tuned with the first."""


def run_text_trial(plan: Plan, source: Source, seed: int, model: str, by: str) -> TextTrial:
    """Pretrains on the first half and measures on the live half, unless that was done before."""
    limit_threads()
    path = _path(plan, source, seed, model, by)
    return kept_trial(path, TextTrial, lambda: _tried(plan, source, seed, model, by))


def _tried(plan: Plan, source: Source, seed: int, model: str, by: str) -> TextTrial:
    if model and TextModel.of(model).tuned:
        return _tuned(plan, source, seed, model, by)
    stream = source.open(seed, plan.cache_dir)
    texts = partial(_vectors, model, plan.cache_dir)
    texts([item.text for item in stream.catalogue.items])  # before the clock runs
    begun = time.process_time()
    made = train_backbone_on(stream, known_by(plan.config, by), texts, seed)
    cpu_s = time.process_time() - begun
    return TextTrial(source.name, seed, model, by, cpu_s, _measured(stream, made))


def _tuned(plan: Plan, source: Source, seed: int, model: str, by: str) -> TextTrial:
    """Trains encoder and backbone together, keeps the encoder as a folder, and tries it once more as a frozen one."""
    stream, named = source.open(seed, plan.cache_dir), TextModel.of(model)
    encoder = text_encoder(named.base, plan.cache_dir)
    assert isinstance(encoder, TextEncoder)
    tuning = Tuning.of(encoder, named.tuned, [item.text for item in stream.catalogue.items])
    begun = time.process_time()
    made = train_backbone_on(stream, known_by(plan.config, by), tuning.numbers, seed, tuning.backbone)
    cpu_s = time.process_time() - begun
    assert isinstance(made.backbone, FoundationBackbone)
    path = _path(plan, source, seed, model, by)
    key = hashlib.sha256(f"{plan.key} {path.relative_to(plan.work_dir)}".encode()).hexdigest()[:16]
    folder = plan.cache_dir / "text-models" / f"tuned-{key}"
    tuning.save(folder, made.backbone, {"stream": source.name, "seed": seed, "items_by": by})
    anew = replace(_tried(plan, source, seed, str(folder), by), model=f"{model}{ANEW}")
    return TextTrial(source.name, seed, model, by, cpu_s, _measured(stream, made), str(folder), anew)


def _measured(stream: Stream, made: TrainedBackbone) -> dict[str, SliceMeasures]:
    """The live half and its slices, scored by the frozen backbone."""
    chunk = Chunk.concat(list(stream.chunks("live")))
    row, column = np.nonzero(chunk.shown)
    user, item = chunk.user[row], chunk.items[row, column]
    domain, query = chunk.domain[row], chunk.query_of(row)
    pairs = represent_pairs(made.backbone, made.profiles, user, item, domain, query=query)
    label, request = chunk.clean_click[row, column].astype(np.float32), row.astype(np.int64)
    slices = measure_slices(label, pairs.frozen_logit, request, PretrainingCounts.of(made.examples, item, user))
    return {ALL: measure_slice(label, pairs.frozen_logit, request), **slices}


def known_by(config: EvaluationConfig, by: str) -> EvaluationConfig:
    """The same evaluation with items known by `by`. Raises ValueError if the backbone cannot do so."""
    return replace(config, backbone=config.backbone.changed(item_aspects=BY[by]))


def _vectors(model: str, cache_dir: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Text vectors; if items are known by id alone, one constant number per text."""
    return text_encoder(model, cache_dir).encode(texts) if model else np.zeros((len(texts), 1), dtype=np.float32)


def _path(plan: Plan, source: Source, seed: int, model: str, by: str) -> Path:
    identity = text_encoder(TextModel.of(model).base, plan.cache_dir).identity if model else ""
    digest = hashlib.sha256(f"{model}|{identity}".encode()).hexdigest()[:8]
    return plan.folder(source, seed) / f"{by}-{digest}.json"
