"""The drift reference as a file in a backbone's folder, tied to that backbone by its fingerprint."""

from __future__ import annotations

from pathlib import Path

from model.backbone.schema import DAMAGED, BackboneRefused
from model.container import ContainerError, pack, unpack
from model.drift.reference import Reference
from model.whole_files import write_whole

FILE = "drift-reference.safetensors"
"""Its name in a backbone's folder."""
_KIND, _FORMAT = "drift-reference", 1


class ReferenceRefused(BackboneRefused):
    """The drift reference cannot be used; the message names the file and the cure."""


def write_reference(folder: Path, reference: Reference, fingerprint: str) -> None:
    """Writes it into the folder of the backbone with `fingerprint`. Raises OSError."""
    metadata = {"kind": _KIND, "format": _FORMAT, "fingerprint": fingerprint}
    write_whole(folder / FILE, pack(reference.to_tensors(), metadata))


def read_reference(folder: Path, fingerprint: str) -> Reference | None:
    """The reference of the backbone with `fingerprint`; None where its folder has none.

    Raises ReferenceRefused for one of another backbone, of another format, or damaged.
    """
    path = folder / FILE
    try:
        tensors, metadata = unpack(path.read_bytes())
        if (metadata.get("kind"), metadata.get("format")) != (_KIND, _FORMAT):
            raise ContainerError(f"it holds no reference of format {_FORMAT}")
        if metadata.get("fingerprint") != fingerprint:
            raise ContainerError("it was made with another backbone")
        return Reference.from_tensors(tensors)
    except FileNotFoundError:
        return None
    except (OSError, ContainerError, ValueError) as error:
        raise ReferenceRefused(f"{path}: {error}: {DAMAGED}") from error
