"""Kernels on the wire: all is checked, and refused by name; a record says which key it was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from model.config import KernelConfig
from model.container import pack, unpack
from model.kernel.kernel import Kernel
from model.kernel.record import FORMAT, KernelInfo, KernelRefused, Reason, pack_kernel, read_info, unpack_kernel
from tests.model.conftest import LIVE, SIZES

CONFIG = KernelConfig(latent=4, hidden=8, domain_width=3)
PRINT = "f" * 64
INFO = KernelInfo("main", 1, PRINT, 0.0, 0)
FAILURES = Path(__file__).resolve().parents[3] / "docs/failures.md"


def kernel(seed: int = 0, **changes: Any) -> Kernel:
    return Kernel(
        CONFIG.model_copy(update=changes), width=16, live_width=LIVE, domain_sizes=SIZES, trunk_width=8, seed=seed
    )


def take(data: bytes, **changes: Any) -> Kernel:
    """The kernel of a record in a process of `CONFIG`, `changes` made to what this process has."""
    own: dict[str, Any] = {
        "fingerprint": PRINT, "config": CONFIG, "width": 16, "live_width": LIVE, "domain_sizes": SIZES,
        "trunk_width": 8, "max_bytes": 1_000_000,
    }  # fmt: skip
    taken, _ = unpack_kernel(data, **{**own, **changes})
    return taken


def refused(data: bytes, **changes: Any) -> KernelRefused:
    with pytest.raises(KernelRefused) as caught:
        take(data, **changes)
    return caught.value


def described(changes: dict[str, object]) -> bytes:
    """A good record whose metadata is changed; a value of None removes the key."""
    _, metadata = unpack(pack_kernel(kernel(), INFO))
    changed = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    return pack(kernel().state_dict(), changed)


OTHER_CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "kernel.latent is 6 in the record, 4 here": ({"latent": 6}, "`kernel`"),
    "kernel.plug is 'after' in the record, 'before' here": ({"plug": "after"}, "`kernel`"),
    "kernel.sharing is 'both' in the record, 'shared' here": ({"sharing": "both"}, "`kernel`"),
    "kernel.use_trust is False in the record, True here": ({"use_trust": False}, "`kernel`"),
    "kernel.min_evidence is 7 in the record, 0 here": ({"min_evidence": 7}, "`kernel`"),
    "kernel.bank_facets is ['scene'] in the record, ['period'] here": ({"bank_facets": ("scene",)}, "`kernel`"),
}


@pytest.mark.parametrize("clause", OTHER_CONFIGURATIONS)
def test_a_kernel_of_another_configuration_is_refused_by_the_key_that_differs(clause: str) -> None:
    changes, section = OTHER_CONFIGURATIONS[clause]
    error = refused(pack_kernel(kernel(**changes), INFO))
    assert error.reason == "configuration"
    assert clause in str(error)
    assert f"give processor and scorer the same {section} configuration" in str(error)


@pytest.mark.parametrize(
    ("own", "clause", "section"),
    [
        ({"live_width": LIVE + 1}, f"live.width is {LIVE} in the record, {LIVE + 1} here", "`live`"),
        ({"width": 32}, "backbone.width is 16 in the record, 32 here", "`backbone`"),
        ({"domain_sizes": (2, 5, 3)}, "domains.region.count is 4 in the record, 5 here", "`domains`"),
    ],
)
def test_a_kernel_of_another_width_is_refused_by_what_decides_the_width(
    own: dict[str, Any], clause: str, section: str
) -> None:
    error = refused(pack_kernel(kernel(), INFO), **own)
    assert error.reason == "configuration"
    assert clause in str(error)
    assert section in str(error)


def test_every_key_that_differs_is_named() -> None:
    error = refused(pack_kernel(kernel(latent=6, hidden=9), INFO), live_width=LIVE + 1)
    assert all(key in str(error) for key in ("kernel.latent", "kernel.hidden", "live.width", "`kernel` and `live`"))


def test_a_key_that_only_one_version_of_the_program_knows_is_named() -> None:
    _, metadata = unpack(pack_kernel(kernel(), INFO))
    extended = {**metadata["depends_on"], "kernel.depth": 3}
    assert "kernel.depth is 3 in the record, not set here" in str(refused(described({"depends_on": extended})))


@pytest.mark.parametrize("version", [1, 0, FORMAT + 1, "2", None, [FORMAT]])
def test_a_record_of_another_format_is_refused_with_a_sentence(version: object) -> None:
    error = refused(described({"format": version}))
    assert error.reason == "format"
    assert f"this program reads {FORMAT}" in str(error)


def test_kernel_with_non_finite_values_is_refused() -> None:
    broken = kernel()
    with torch.no_grad():
        broken.path[0] = float("nan")
    assert refused(pack_kernel(broken, INFO)).reason == "contents"


def test_kernel_beyond_the_allowed_size_is_refused_unread() -> None:
    assert refused(b"x" * 101, max_bytes=100).reason == "size"


def test_tensors_that_are_not_the_configurations_are_refused() -> None:
    _, metadata = unpack(pack_kernel(kernel(), INFO))
    assert refused(pack({"path": torch.zeros(3)}, metadata)).reason == "shapes"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": None}, {"kind": "learner"}, {"group": 5}, {"group": None}, {"version": "1"}, {"version": -1},
        {"version": True}, {"version": 1.5}, {"examples": [1]}, {"newest_event_time": "now"},
        {"newest_event_time": float("inf")}, {"newest_event_time": float("nan")}, {"backbone_fingerprint": 7},
        {"depends_on": None}, {"depends_on": 5}, {"depends_on": ["kernel.latent"]},
    ],
)  # fmt: skip
def test_metadata_that_says_no_kernel_is_refused(changes: dict[str, object]) -> None:
    assert refused(described(changes)).reason == "garbage"


def raw(metadata: str) -> bytes:
    """A kernel's tensors beside any text in the place of its metadata."""
    return bytes(
        save({name: tensor.clone() for name, tensor in kernel().state_dict().items()}, {"driftline": metadata})
    )


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
def test_no_metadata_whatever_makes_anything_but_a_kernel_or_a_refusal(
    metadata: object, changes: dict[str, object], nested: dict[str, object]
) -> None:
    _, good = unpack(pack_kernel(kernel(), INFO))
    dependencies = {**good["depends_on"], **nested}
    for changed in (metadata, {**good, **changes}, {**good, "depends_on": dependencies}):
        try:
            taken, info = unpack_kernel(
                raw(json.dumps(changed)), fingerprint=PRINT, config=CONFIG, width=16, live_width=LIVE,
                domain_sizes=SIZES,
            )  # fmt: skip
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
    packed = bytearray(pack_kernel(kernel(), INFO))
    position = data.draw(st.integers(0, len(packed) - 1))
    packed[position] ^= data.draw(st.integers(1, 255))
    try:
        taken = take(bytes(packed))
    except KernelRefused:
        return
    assert all(bool(torch.isfinite(p).all()) for p in taken.parameters())


@pytest.mark.parametrize("name", ["float8_e4m3fn", "bfloat16", "float16", "complex64"])
def test_a_kernel_of_another_number_type_is_refused(name: str) -> None:
    _, metadata = unpack(pack_kernel(kernel(), INFO))
    cast: dict[str, Tensor] = {key: value.to(getattr(torch, name)) for key, value in kernel().state_dict().items()}
    assert refused(pack(cast, metadata)).reason == "shapes"


def test_what_a_record_says_of_its_kernel_can_be_read_without_its_configuration() -> None:
    assert read_info(pack_kernel(kernel(latent=9), INFO)) == INFO


@pytest.mark.parametrize("reason", get_args(Reason))
def test_the_page_of_failures_says_what_to_do_for_every_reason(reason: str) -> None:
    assert f"`{reason}`" in FAILURES.read_text()
