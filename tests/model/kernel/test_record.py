"""Serialised kernels: everything is checked and refused by name; a record holds its dependencies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from model.container import pack, unpack
from model.kernel.compatibility import dependencies
from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor
from model.kernel.features import FeatureMap
from model.kernel.kernel import Kernel
from model.kernel.learner import prior_precision
from model.kernel.record import FORMAT, KernelInfo, KernelRefused, Reason, pack_kernel, read_info, unpack_kernel
from model.kernel.start import KernelStart
from tests.model.conftest import SIZES, kernel_start
from tests.model.kernel.kernel_parts import PRINT, START, WIDTH, batch, make

INFO = KernelInfo("main", 1, PRINT, 0.0, 0)
FAILURES = Path(__file__).resolve().parents[3] / "docs/failures.md"


def kernel(start: KernelStart = START, seed: int = 0) -> Kernel:
    return Kernel(start, torch.randn(start.features.width, generator=torch.Generator().manual_seed(seed)))


def packed(start: KernelStart = START, sizes: tuple[int, int, int] = SIZES, info: KernelInfo = INFO) -> bytes:
    return pack_kernel(kernel(start), info, dependencies(start, sizes))


def take(data: bytes, start: KernelStart = START, sizes: tuple[int, int, int] = SIZES, **changes: Any) -> Kernel:
    """The kernel of a record in a process that has `start` and facets of `sizes`."""
    own: dict[str, Any] = {"fingerprint": PRINT, "depends_on": dependencies(start, sizes), "max_bytes": 1_000_000}
    taken, _ = unpack_kernel(data, start=start, **{**own, **changes})
    return taken


def refused(data: bytes, **changes: Any) -> KernelRefused:
    with pytest.raises(KernelRefused) as caught:
        take(data, **changes)
    return caught.value


def described(changes: dict[str, object]) -> bytes:
    """A good record whose metadata is changed; a value of None removes the key."""
    tensors, metadata = unpack(packed())
    changed = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    return pack(tensors, changed)


def wide_start() -> KernelStart:
    """A start as wide as the defaults make it."""
    rng = np.random.default_rng(0)
    group = np.arange(2_000) % 40
    x = (rng.normal(size=(2_000, 64)) + 2 * rng.normal(size=(40, 64))[group]).astype(np.float32)
    residuals, counters = 24, 22
    hot = (rng.random((300, 60)) < 0.2).astype(np.float64)
    logit = rng.normal(size=300).astype(np.float32)
    features = FeatureMap(Compression.fit(x, group, beta=2.0, rank=8), Descriptor.fit(hot, logit), residuals, counters)
    mean, names = features.identity(), tuple(f"live_{number}" for number in range(residuals + counters))
    precision = torch.diag(prior_precision(features))
    return KernelStart(
        features.compression, features.descriptor, names, residuals, mean, mean[: features.direct], precision, 0
    )


def test_a_kernel_round_trips_and_scores_identically() -> None:
    learner = make()
    for seed in range(4):
        learner.learn(batch(seed=seed))
    info = KernelInfo("main", 7, PRINT, 12.5, learner.examples)
    data = pack_kernel(learner.candidate, info, dependencies(START, SIZES))
    taken, read = unpack_kernel(data, fingerprint=PRINT, start=START, depends_on=dependencies(START, SIZES))
    assert read == info
    assert torch.equal(taken.logit(batch().inputs), learner.score(batch()))
    assert data == pack_kernel(taken, info, dependencies(START, SIZES))


def test_a_kernel_of_another_start_is_refused_by_name() -> None:
    error = refused(packed(kernel_start(WIDTH, seed=4)))
    assert error.reason == "configuration"
    assert "kernel.start is" in str(error)
    assert "give processor and scorer the same `kernel` configuration" in str(error)


def test_a_kernel_of_another_backbone_is_refused() -> None:
    error = refused(packed(), fingerprint="e" * 64)
    assert error.reason == "fingerprint"
    assert "ffffffffffff" in str(error) and "eeeeeeeeeeee" in str(error)


def test_a_kernel_of_another_width_is_refused_by_the_setting_that_decides_it() -> None:
    error = refused(packed(kernel_start(8)))
    assert error.reason == "configuration"
    assert "backbone.width is 8 in the record, 16 here" in str(error)
    assert "`backbone` and `kernel`" in str(error)


def test_a_kernel_of_other_domains_is_refused_by_the_facet() -> None:
    error = refused(packed(), sizes=(2, 5, 3))
    assert "domains.region.count is 4 in the record, 5 here" in str(error)
    assert "`domains`" in str(error)


def test_a_key_known_to_only_one_version_is_reported_by_name() -> None:
    _, metadata = unpack(packed())
    extended = {**metadata["depends_on"], "kernel.depth": 3}
    assert "kernel.depth is 3 in the record, not set here" in str(refused(described({"depends_on": extended})))


@pytest.mark.parametrize("version", [2, 1, 0, FORMAT + 1, "2", None, [FORMAT]])
def test_a_record_of_another_format_is_refused_with_an_explanation(version: object) -> None:
    error = refused(described({"format": version}))
    assert error.reason == "format"
    assert f"this program reads {FORMAT}" in str(error)


def test_kernel_with_non_finite_values_is_refused() -> None:
    broken = kernel()
    broken.weights[0] = float("nan")
    assert refused(pack_kernel(broken, INFO, dependencies(START, SIZES))).reason == "contents"


def test_kernel_beyond_the_allowed_size_is_refused_unread() -> None:
    assert refused(b"x" * 101, max_bytes=100).reason == "size"


@pytest.mark.parametrize("tensors", [{}, {"path": torch.zeros(3)}, {"weights": torch.zeros(3)}])
def test_tensors_that_differ_from_the_start_are_refused(tensors: dict[str, Tensor]) -> None:
    _, metadata = unpack(packed())
    assert refused(pack(tensors, metadata)).reason == "shapes"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": None}, {"kind": "learner"}, {"group": 5}, {"group": None}, {"version": "1"}, {"version": -1},
        {"version": True}, {"version": 1.5}, {"examples": [1]}, {"newest_event_time": "now"},
        {"newest_event_time": float("inf")}, {"newest_event_time": float("nan")}, {"backbone_fingerprint": 7},
        {"depends_on": None}, {"depends_on": 5}, {"depends_on": ["kernel.start"]},
    ],
)  # fmt: skip
def test_metadata_that_does_not_describe_a_kernel_is_refused(changes: dict[str, object]) -> None:
    assert refused(described(changes)).reason == "garbage"


def raw(metadata: str) -> bytes:
    """A kernel's tensors beside any text in the place of its metadata."""
    return bytes(save({"weights": kernel().weights}, {"driftline": metadata}))


@pytest.mark.parametrize("metadata", ["5", "null", "[]", '"kernel"', "{", "", "[" * 100_000, "1" * 10_000, "NaN"])
def test_metadata_of_another_type_is_refused_and_never_crashes(metadata: str) -> None:
    assert refused(raw(metadata)).reason == "garbage"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["format", "kind", "group", "version", "backbone_fingerprint", "newest_event_time", "examples", "depends_on"]
)


@pytest.mark.slow
@settings(max_examples=150)
@given(metadata=JSON, changes=st.dictionaries(KEYS, JSON, max_size=3), nested=st.dictionaries(st.text(), JSON))
def test_any_metadata_gives_a_kernel_or_a_refusal(
    metadata: object, changes: dict[str, object], nested: dict[str, object]
) -> None:
    _, good = unpack(packed())
    nested_keys = {**good["depends_on"], **nested}
    for changed in (metadata, {**good, **changes}, {**good, "depends_on": nested_keys}):
        try:
            taken, info = unpack_kernel(
                raw(json.dumps(changed)), fingerprint=PRINT, start=START, depends_on=dependencies(START, SIZES)
            )
        except KernelRefused:
            continue
        assert isinstance(taken, Kernel)
        assert isinstance(info.version, int) and isinstance(info.group, str)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_never_crashes(data: bytes) -> None:
    assert refused(data).reason == "garbage"


@settings(max_examples=40)
@given(st.data())
def test_a_kernel_with_a_flipped_byte_is_refused_or_still_well_formed(data: st.DataObject) -> None:
    record = bytearray(packed())
    record[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        taken = take(bytes(record))
    except KernelRefused:
        return
    assert bool(torch.isfinite(taken.weights).all())


@pytest.mark.parametrize("name", ["float8_e4m3fn", "bfloat16", "float16", "complex64"])
def test_a_kernel_of_another_number_type_is_refused(name: str) -> None:
    _, metadata = unpack(packed())
    cast = kernel().weights.to(getattr(torch, name))
    assert refused(pack({"weights": cast}, metadata)).reason == "shapes"


def test_the_information_of_a_record_is_readable_without_its_configuration() -> None:
    assert read_info(packed(kernel_start(8, seed=9))) == INFO


def test_records_and_snapshots_of_three_hundred_and_fifty_features_are_small() -> None:
    """As with the defaults: eight directions, a descriptor of thirty-three columns, T and the counters."""
    start = wide_start()
    assert 330 <= start.features.width <= 370
    learner = make(start)
    assert len(packed(start)) <= 32_000
    assert len(learner.snapshot()) <= 1_000_000


@pytest.mark.parametrize("reason", get_args(Reason))
def test_the_page_of_failures_explains_every_reason(reason: str) -> None:
    assert f"`{reason}`" in FAILURES.read_text()
