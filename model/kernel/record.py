"""Kernels on the wire. Everything is checked before anything is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from model.config import KernelConfig
from model.container import ContainerError, check_shapes, pack, unpack
from model.kernel.kernel import Kernel

FORMAT = 1


class KernelRefused(Exception):
    """A kernel cannot be used."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        """One of fingerprint, shapes, contents, size, garbage."""


@dataclass(frozen=True)
class KernelInfo:
    """What travels with a kernel."""

    group: str
    version: int
    """0 is the identity; each published kernel is one more."""
    backbone_fingerprint: str
    newest_event_time: float
    """Event time of the newest example the kernel has learned from, seconds."""
    examples: int
    """Examples learned since birth."""


def pack_kernel(kernel: Kernel, info: KernelInfo) -> bytes:
    """A kernel as bytes; equal kernels give equal bytes."""
    return pack(kernel.state_dict(), {"format": FORMAT, "kind": "kernel", **asdict(info)})


def unpack_kernel(
    data: bytes,
    *,
    fingerprint: str,
    config: KernelConfig,
    width: int,
    live_width: int,
    domain_sizes: tuple[int, int, int],
    trunk_width: int | None = None,
    max_bytes: int = 16 * 1024 * 1024,
) -> tuple[Kernel, KernelInfo]:
    """A new kernel, ready to answer (evaluation mode, no gradients). Raises KernelRefused; all is checked first."""
    if len(data) > max_bytes:
        raise KernelRefused("size", f"{len(data)} bytes, more than the {max_bytes} allowed")
    try:
        tensors, metadata = unpack(data)
    except ContainerError as error:
        reason = "contents" if "non-finite" in str(error) else "garbage"
        raise KernelRefused(reason, str(error)) from error
    try:
        if metadata.pop("kind") != "kernel" or metadata.pop("format") != FORMAT:
            raise KernelRefused("garbage", "not a kernel of this format")
        info = KernelInfo(**metadata)
    except (KeyError, TypeError) as error:
        raise KernelRefused("garbage", f"metadata: {error}") from error
    if info.backbone_fingerprint != fingerprint:
        raise KernelRefused(
            "fingerprint", f"made for backbone {str(info.backbone_fingerprint)[:12]}, this one is {fingerprint[:12]}"
        )
    kernel = Kernel(config, width=width, live_width=live_width, domain_sizes=domain_sizes, trunk_width=trunk_width)
    try:
        check_shapes(tensors, kernel.state_dict())
    except ContainerError as error:
        raise KernelRefused("shapes", str(error)) from error
    kernel.load_state_dict(tensors)
    kernel.requires_grad_(False).eval()
    return kernel, info
