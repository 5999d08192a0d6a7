"""What a kernel starts from: kept whole, refused by name, and only for the live features that it was made for."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.container import ContainerError, pack, unpack
from model.kernel.start import FILE, FORMAT, KernelStart, StartRefused
from tests.model.conftest import kernel_start
from tests.model.kernel.kernel_parts import START, batch, make


def test_a_start_round_trips_and_equal_starts_give_equal_bytes(tmp_path: Path) -> None:
    START.save(tmp_path)
    loaded = KernelStart.load(tmp_path)
    assert loaded.to_bytes() == START.to_bytes() == kernel_start().to_bytes()
    assert loaded.digest == START.digest
    assert (loaded.live_names, loaded.residuals, loaded.examples) == (START.live_names, START.residuals, START.examples)
    examples, form = (
        batch(),
        START.features.form(torch.randn(START.features.width, generator=torch.Generator().manual_seed(0))),
    )
    assert torch.equal(loaded.features.logit(examples.inputs, form), START.features.logit(examples.inputs, form))


def test_any_difference_changes_the_digest() -> None:
    changed = [
        replace(START, mean=START.mean + 1),
        replace(START, precision=2 * START.precision),
        replace(START, examples=5),
        replace(START, compression=replace(START.compression, beta=3.0)),
        replace(START, descriptor=replace(START.descriptor, logit_mean=0.25)),
        replace(START, live_names=START.live_names[::-1]),
    ]
    assert len({START.digest, *(start.digest for start in changed)}) == len(changed) + 1


def test_a_start_that_learned_serves_the_frozen_model_until_the_first_label() -> None:
    taught = replace(START, mean=START.mean + 0.5, direct_mean=START.direct_mean + 0.5, examples=1_000)
    learner, examples = make(taught), batch()
    assert torch.equal(learner.score(examples), examples.frozen_logit)
    learner.learn(batch(n=1, seed=3))
    assert float((learner.score(examples) - examples.frozen_logit).abs().mean()) > 0.2


def test_a_missing_file_says_that_the_backbone_must_be_pretrained_again(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=f"{FILE} is missing.*pretrain it again"):
        KernelStart.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", START.to_bytes()[:-9]])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StartRefused, match=f"{FILE} cannot be used .*pretrain the backbone again"):
        KernelStart.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "kernel"}, "no kernel's start"),
        ({"format": FORMAT - 1}, "no kernel's start of format"),
        ({"beta": None}, "its metadata is wrong"),
        ({"beta": "much"}, "its metadata is wrong"),
        ({"examples": None}, "its metadata is wrong"),
        ({"residuals": 99}, "do not fit together"),
        ({"residuals": -1}, "do not fit together"),
        ({"live_names": ["one"]}, "do not fit together"),
        ({"logit_mean": float("inf")}, "do not fit together"),
    ],
)
def test_wrong_metadata_is_refused(changes: dict[str, object], message: str) -> None:
    tensors, metadata = unpack(START.to_bytes())
    changed = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    with pytest.raises(ContainerError, match=message):
        KernelStart.from_bytes(pack(tensors, changed))


def test_tensors_of_other_shapes_are_refused() -> None:
    tensors, metadata = unpack(START.to_bytes())
    for name, tensor in tensors.items():
        without = {key: value for key, value in tensors.items() if key != name}
        longer = torch.cat([tensor, tensor[-1:]])
        wrongs = [without, {**tensors, name: tensor.double()}]
        wrongs += [{**tensors, name: longer}] if name != "table" else []  # that is one item value more
        for wrong in wrongs:
            with pytest.raises(ContainerError):
                KernelStart.from_bytes(pack(wrong, metadata))


def test_an_indefinite_precision_is_refused() -> None:
    for damaged in (0.0, -3.0):
        precision = START.precision.clone()
        precision[4, 4] = damaged
        with pytest.raises(ContainerError, match="do not fit together"):
            KernelStart.from_bytes(replace(START, precision=precision).to_bytes())


@settings(max_examples=60)
@given(st.data())
def test_a_flipped_byte_is_refused_or_changes_the_digest(data: st.DataObject) -> None:
    packed = bytearray(START.to_bytes())
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        taken = KernelStart.from_bytes(bytes(packed))
    except ContainerError:
        return
    assert taken.digest != START.digest or taken.to_bytes() == START.to_bytes()


def test_other_live_features_are_refused_and_those_that_differ_are_named() -> None:
    START.check_live(START.live_names)
    other = [*START.live_names[:-1], "user_colour_rate"]
    with pytest.raises(StartRefused, match=r"different: live_6, user_colour_rate\).*`live`, `domains` and"):
        START.check_live(other)
    with pytest.raises(StartRefused, match="7 live features, this process has 8"):
        START.check_live([*START.live_names, "more"])
    with pytest.raises(StartRefused, match="their order"):
        START.check_live(START.live_names[::-1])


def test_every_field_is_stored() -> None:
    _, metadata = unpack(START.to_bytes())
    tensors, _ = unpack(START.to_bytes())
    kept = {*tensors, *metadata}
    names = {f.name for part in (START, START.compression, START.descriptor) for f in fields(part)}
    assert names - {"compression", "descriptor", "conversion"} <= kept


def test_the_start_of_conversions_has_its_own_file_and_leaves_that_of_clicks_unchanged(tmp_path: Path) -> None:
    of_conversions = replace(START, examples=7)
    replace(START, conversion=of_conversions).save(tmp_path)
    loaded = KernelStart.load(tmp_path, conversions=True)
    assert loaded.conversion is not None
    assert loaded.conversion.to_bytes() == of_conversions.to_bytes()
    assert loaded.digest == START.digest
    assert KernelStart.load(tmp_path).conversion is None
