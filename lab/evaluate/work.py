"""The work of a worker process: prepare a stream, or run one adapter on it. Both can be resumed.

Results are stored in files and not in joblib's Memory, because its key is a function's own source alone; here the key
is all code that the work imports (`lab.code_key`). An unreadable file counts as missing.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.text import DEFAULT_MODEL, TextEncoder
from lab.adapters import Adapter, AdapterContext
from lab.adapters.iak import Iak
from lab.evaluate.plan import ALL_ADAPTERS, Plan
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.prequential import Outcome, run
from lab.evaluate.pretrained import Pretrained, live_layout, log_of, pretrain_on, pretraining_examples, query_features
from lab.streams import Catalogue, Chunk, Stream
from lab.streams.sources import Source
from model.backbone.checkpoint import load_backbone, save_backbone
from model.backbone.dataset import ProfileTable
from model.backbone.schema import InputSchema
from model.encoding.domain import FACETS, DomainSpace
from model.encoding.profile import ItemFeatures, UserFeatures
from model.kernel.start import KernelStart
from model.whole_files import whole_file, whole_folder


@dataclass(frozen=True)
class FinishedRun:
    """The stored result of one adapter on one stream and seed."""

    outcome: Outcome
    parameters: int
    state_bytes: int


@dataclass(frozen=True)
class _OpenStream:
    """Data shared by all adapters of one stream and seed."""

    context: AdapterContext
    data: PreparedStream
    space: DomainSpace


_HELD_OUT = "held-out.npy"
_open: dict[Path, _OpenStream] = {}
"""The stream that this process opened last: a worker runs the adapters of one stream one after the other."""


def limit_threads() -> None:
    """Sets one thread per process: the work is parallel by processes, and sums then have a fixed order."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def prepare_stream(plan: Plan, source: Source, seed: int) -> None:
    """Pretrains the backbone of a stream and seed and prepares the live half, unless that is stored already."""
    limit_threads()
    stream = source.open(seed, plan.cache_dir)
    ensure_pretrained(plan, stream, seed)
    folder = plan.folder(source, seed)
    if _read(folder / "stream.npz") is None:
        data = prepare(stream, load_pretrained(plan, stream, seed), plan.config)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "stream.npz", **data.arrays())


def run_adapter(plan: Plan, source: Source, seed: int, name: str) -> tuple[str, int, str]:
    """Runs one adapter on a prepared stream unless its result is there; returns stream, seed and adapter."""
    limit_threads()
    path = plan.folder(source, seed) / f"{name}.npz"
    if _read(path) is None:
        opened = _opened(plan, source, seed)
        spec = ALL_ADAPTERS[name]
        adapter = spec.build(opened.context, spec.rate)
        outcome = run(adapter, opened.data, plan.config.training.batch_examples)
        _write(
            path,
            logit=outcome.logit,
            cpu_s=np.array(outcome.cpu_s),
            peak_bytes=np.array(outcome.peak_bytes),
            parameters=np.array(adapter.parameters),
            state_bytes=np.array(adapter.state_bytes),
            **_information(adapter, opened.space),
        )
    return source.name, seed, name


def _information(adapter: Adapter, space: DomainSpace) -> dict[str, NDArray[np.generic]]:
    """The kernel's information for `lab.evaluate.information`; empty for other adapters."""
    counted = adapter.information() if isinstance(adapter, Iak) else {}
    names = [f"{facet}={value}" for facet in FACETS for value in space.values[facet]]
    return {**counted, "domains": np.array(names)} if counted else {}


def close_stream() -> None:
    """Lets go of the stream that this process opened last."""
    _open.clear()
    gc.unfreeze()
    gc.collect()


def load_run(plan: Plan, source: Source, seed: int, name: str) -> FinishedRun:
    """A finished run. Raises FileNotFoundError if there is none."""
    path = plan.folder(source, seed) / f"{name}.npz"
    file = _read(path)
    if file is None:
        raise FileNotFoundError(f"{path} is missing or damaged; call again to run {name} anew")
    outcome = Outcome(file["logit"], float(file["cpu_s"]), int(file["peak_bytes"]))
    return FinishedRun(outcome, int(file["parameters"]), int(file["state_bytes"]))


def load_stream(plan: Plan, source: Source, seed: int) -> PreparedStream:
    """The prepared live half of a stream and seed. Raises FileNotFoundError if there is none."""
    path = plan.folder(source, seed) / "stream.npz"
    columns = _read(path)
    if columns is None:
        raise FileNotFoundError(f"{path} is missing or damaged; call again to prepare the stream anew")
    return PreparedStream(**columns)


def ensure_pretrained(plan: Plan, stream: Stream, seed: int) -> bool:
    """Pretrains the backbone of a stream and seed; False if it is there already."""
    folder = _backbone_folder(plan, stream, seed)
    if (folder / "card.json").is_file():
        return False
    pretrained = pretrain_on(stream, plan.config, plan.kernel, partial(text_vectors, plan), seed)
    schema = input_schema(plan, stream.catalogue)
    with whole_folder(folder, finished="card.json") as scratch:
        save_backbone(scratch, pretrained.backbone, pretrained.encoder, schema, {"stream": stream.name, "seed": seed})
        pretrained.start.save(scratch)
        np.save(scratch / _HELD_OUT, pretrained.held_out)
    return True


def load_pretrained(plan: Plan, stream: Stream, seed: int) -> Pretrained:
    """The backbone of a stream and seed, which `ensure_pretrained` has made."""
    catalogue = stream.catalogue
    folder = _backbone_folder(plan, stream, seed)
    loaded = load_backbone(folder, input_schema(plan, catalogue), plan.config.backbone.factory)
    vectors = text_vectors(plan, [item.text for item in catalogue.items])
    users = [UserFeatures(user.user_id, user.fields) for user in catalogue.users]
    items = [ItemFeatures(i.item_id, i.fields, vector) for i, vector in zip(catalogue.items, vectors, strict=True)]
    queries = query_features(catalogue, loaded.config, partial(text_vectors, plan))
    profiles, start = ProfileTable(loaded.encoder, users, items, queries), KernelStart.load(folder)
    layout = live_layout(stream, plan.config, loaded.encoder, loaded.backbone)
    start.check_live(layout.names)
    log = log_of(stream, pretraining_examples(stream), loaded.encoder, profiles)
    held_out = np.load(folder / _HELD_OUT)
    return Pretrained(loaded.backbone, loaded.encoder, profiles, layout, log, start, held_out)


def adapter_context(plan: Plan, stream: Stream, pretrained: Pretrained, seed: int) -> AdapterContext:
    """The context from which every adapter of a stream and seed is built."""
    return AdapterContext(
        backbone=pretrained.backbone,
        profiles=pretrained.profiles,
        history=pretrained.log.examples,
        start=pretrained.start,
        domain_sizes=stream.catalogue.space.sizes,
        learner=plan.learner,
        training=plan.config.training,
        seed=seed,
    )


def input_schema(plan: Plan, catalogue: Catalogue) -> InputSchema:
    """The inputs that a backbone of the stream reads."""
    backbone = plan.config.backbone
    return InputSchema(
        catalogue.space.values, catalogue.user_fields, catalogue.item_fields, DEFAULT_MODEL, backbone.item_aspects,
        backbone.query_aspects,
    )  # fmt: skip


def text_vectors(plan: Plan, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of the items' texts, `(items, width)`; the language model is not even loaded for a log without texts."""
    if not any(text.strip() for text in texts):
        return np.zeros((len(texts), plan.config.backbone.text_width), dtype=np.float32)
    return TextEncoder(cache_dir=plan.cache_dir).encode(texts)


def _opened(plan: Plan, source: Source, seed: int) -> _OpenStream:
    folder = plan.folder(source, seed)
    opened = _open.get(folder)
    if opened is None:
        close_stream()  # the last stream goes, and this one must not pile up on it
        stream = source.open(seed, plan.cache_dir)
        context = adapter_context(plan, stream, load_pretrained(plan, stream, seed), seed)
        _open[folder] = opened = _OpenStream(context, load_stream(plan, source, seed), stream.catalogue.space)
        # Loaded modules stay, and each garbage collection would scan PyTorch's 400 000 objects for a fifth of a second.
        gc.collect()
        gc.freeze()
    return opened


def _backbone_folder(plan: Plan, stream: Stream, seed: int) -> Path:
    """Streams with the same pretraining half share a backbone."""
    digest = hashlib.sha256(plan.key.encode())
    chunk = Chunk.concat(list(stream.chunks("pretrain")))
    for values in chunk.training_columns:
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(json.dumps([stream.catalogue.space.values, stream.catalogue.queries]).encode())
    digest.update(str(seed).encode())
    return plan.work_dir / plan.key / "backbones" / digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; None if it is not there, or torn because a machine lost its power."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError):
        path.unlink()
        return None


def _write(path: Path, **arrays: Any) -> None:
    """Writes atomically, so that an interrupted run leaves no file that looks like a result."""
    with whole_file(path) as file:
        np.savez(file, **arrays)
