"""What a worker process does: pretrain a backbone, or run the adapters of one stream and seed. All of it resumable."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.layout import LiveLayout
from features.text import DEFAULT_MODEL, TextEncoder
from lab.adapters import AdapterContext
from lab.evaluate.plan import ALL_ADAPTERS, Plan
from lab.evaluate.prepare import Lab, Prepared, make_lab, prepare
from lab.evaluate.prequential import Outcome, run
from lab.streams import Catalogue, Chunk, Stream
from lab.streams.sources import Source
from model.backbone.checkpoint import load_backbone, save_backbone
from model.backbone.dataset import ProfileTable
from model.backbone.schema import InputSchema
from model.encoding.features import ItemFeatures, UserFeatures

Tell = Callable[[str, str, int], None]
"""Called with stream, adapter and seed when a run is done."""


@dataclass(frozen=True)
class Done:
    """One finished run, as it lies on disk."""

    outcome: Outcome
    parameters: int
    state_bytes: int


def limit_threads() -> None:
    """One thread per process: the processes are the parallelism, and sums come in one order."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def lab_key(plan: Plan, stream: Stream, seed: int) -> str:
    """Streams with the same pretraining half share a backbone."""
    digest = hashlib.sha256(plan.key.encode())
    chunk = Chunk.concat(list(stream.chunks("pretrain")))
    for values in (chunk.time, chunk.user, chunk.domain, chunk.items, chunk.click):
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(json.dumps(stream.catalogue.space.values).encode())
    digest.update(str(seed).encode())
    return digest.hexdigest()[:16]


def ensure_lab(plan: Plan, source: Source, seed: int) -> str:
    """Pretrains the backbone of a stream and seed unless it is there; returns its key."""
    limit_threads()
    stream = source.open(seed, plan.cache_dir)
    key = lab_key(plan, stream, seed)
    folder = plan.work_dir / plan.key / "backbones" / key
    if (folder / "card.json").is_file():
        return key
    lab = make_lab(stream, plan.lab, partial(text_vectors, plan), seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    schema = input_schema(stream.catalogue)
    save_backbone(scratch, lab.backbone, lab.encoder, schema, {"stream": source.name, "seed": seed})
    try:
        scratch.rename(folder)
    except OSError:  # another process was faster
        if not (folder / "card.json").is_file():
            raise
    return key


def run_stream(plan: Plan, source: Source, seed: int, tell: Tell) -> None:
    """Runs every adapter that has no result yet on one stream and seed."""
    limit_threads()
    folder = plan.folder(source, seed)
    missing = [name for name in plan.adapters if not (folder / f"{name}.npz").is_file()]
    for name in plan.adapters:
        if name not in missing:
            tell(source.name, name, seed)
    if not missing and (folder / "stream.npz").is_file():
        return
    stream = source.open(seed, plan.cache_dir)
    lab = open_lab(plan, stream, seed)
    data = prepared_stream(plan, stream, lab, folder)
    context = AdapterContext(
        backbone=lab.backbone, profiles=lab.profiles, live_width=lab.layout.width,
        domain_sizes=stream.catalogue.space.sizes, kernel=plan.kernel, learner=plan.learner,
        rehearsal_steps=plan.lab.rehearsal_steps, seed=seed,
    )  # fmt: skip
    # What is loaded stays: each collection would walk the 400 000 objects of PyTorch for a fifth of a second.
    gc.collect()
    gc.freeze()
    try:
        for name in missing:
            _run_one(plan, context, data, name, folder)
            tell(source.name, name, seed)
            gc.collect()
    finally:
        gc.unfreeze()  # this stream goes, and the next one must not pile up on it


def _run_one(plan: Plan, context: AdapterContext, data: Prepared, name: str, folder: Path) -> None:
    spec = ALL_ADAPTERS[name]
    adapter = spec.build(context, spec.rate)
    outcome = run(adapter, data, plan.lab.batch_examples)
    _write(
        folder / f"{name}.npz",
        logit=outcome.logit,
        cpu_s=np.array(outcome.cpu_s),
        peak_bytes=np.array(outcome.peak_bytes),
        parameters=np.array(adapter.parameters),
        state_bytes=np.array(adapter.state_bytes),
    )


def load_run(plan: Plan, source: Source, seed: int, name: str) -> Done:
    """A finished run."""
    with np.load(plan.folder(source, seed) / f"{name}.npz") as file:
        outcome = Outcome(file["logit"], float(file["cpu_s"]), int(file["peak_bytes"]))
        return Done(outcome, int(file["parameters"]), int(file["state_bytes"]))


def load_stream(plan: Plan, source: Source, seed: int) -> Prepared:
    """The prepared stream of finished runs."""
    with np.load(plan.folder(source, seed) / "stream.npz") as file:
        return Prepared(**{name: file[name] for name in file.files})


def prepared_stream(plan: Plan, stream: Stream, lab: Lab, folder: Path) -> Prepared:
    """The prepared live half, from `folder` if it is there."""
    if (folder / "stream.npz").is_file():
        with np.load(folder / "stream.npz") as file:
            return Prepared(**{name: file[name] for name in file.files})
    data = prepare(stream, lab, plan.lab)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "stream.npz", **data.arrays())
    return data


def open_lab(plan: Plan, stream: Stream, seed: int) -> Lab:
    """The backbone of a stream and seed, which `ensure_lab` has made."""
    catalogue, factory = stream.catalogue, plan.lab.backbone.factory
    folder = plan.work_dir / plan.key / "backbones" / lab_key(plan, stream, seed)
    loaded = load_backbone(folder, input_schema(catalogue), factory)
    vectors = text_vectors(plan, [item.text for item in catalogue.items])
    users = [UserFeatures(user.user_id, user.fields) for user in catalogue.users]
    items = [ItemFeatures(i.item_id, i.fields, vector) for i, vector in zip(catalogue.items, vectors, strict=True)]
    layout = LiveLayout.of(plan.lab.live, loaded.backbone.content_width)
    return Lab(loaded.backbone, loaded.encoder, ProfileTable(loaded.encoder, users, items), layout)


def input_schema(catalogue: Catalogue) -> InputSchema:
    """What a backbone of the stream reads."""
    return InputSchema(catalogue.space.values, catalogue.user_fields, catalogue.item_fields, DEFAULT_MODEL)


def text_vectors(plan: Plan, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of the items' texts, `(items, width)`; the language model is not even loaded for a log without texts."""
    if not any(text.strip() for text in texts):
        return np.zeros((len(texts), plan.lab.backbone.text_width), dtype=np.float32)
    return TextEncoder(cache_dir=plan.cache_dir).encode(texts)


def _write(path: Path, **arrays: Any) -> None:
    """Whole or not at all: a run that was cut short leaves nothing that looks like a result."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("wb") as file:
        np.savez(file, **arrays)
    scratch.replace(path)
