"""What drift is measured against, as a file of the backbone's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.drift.kept_reference import FILE, ReferenceRefused, read_reference, write_reference
from model.drift.reference import Reference

SIZES = (2, 1, 3)


def made() -> Reference:
    random = np.random.default_rng(0)
    domain = np.column_stack([random.integers(size, size=300) for size in SIZES])
    logit, label = random.normal(size=300), (random.random(300) < 0.3).astype(np.float64)
    return Reference.of(random.normal(size=(300, 8)), logit, label, domain, SIZES)


def test_a_reference_round_trips(tmp_path: Path) -> None:
    reference = made()
    write_reference(tmp_path, reference, "print")
    back = read_reference(tmp_path, "print")
    assert back is not None
    for name, tensor in reference.to_tensors().items():
        assert (back.to_tensors()[name] == tensor).all(), name


def test_a_folder_without_a_reference_returns_none(tmp_path: Path) -> None:
    assert read_reference(tmp_path, "print") is None


def test_a_reference_of_another_backbone_is_refused_with_a_remedy(tmp_path: Path) -> None:
    write_reference(tmp_path, made(), "print")
    with pytest.raises(ReferenceRefused, match=r"made with another backbone.*pretrain again"):
        read_reference(tmp_path, "other")


@pytest.mark.parametrize("kept", [0, 9, 100])
def test_a_truncated_reference_is_refused(tmp_path: Path, kept: int) -> None:
    write_reference(tmp_path, made(), "print")
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ReferenceRefused, match=FILE):
        read_reference(tmp_path, "print")
