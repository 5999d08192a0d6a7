"""Labels of a request's items as packed bits: the first item is the highest bit of the first byte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pack(labels: NDArray[np.bool_]) -> bytes:
    """Labels `(n,)` as bits."""
    return np.packbits(labels).tobytes()


def unpack(bits: bytes, n: int) -> NDArray[np.bool_]:
    """The labels of `n` items, `(n,)`; no bits stand for no label that is set."""
    if not any(bits):
        return np.zeros(n, dtype=np.bool_)
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8))[:n].view(np.bool_)


def size_of(n: int) -> int:
    """Bytes that the labels of `n` items take."""
    return (n + 7) >> 3


def is_set(bits: bytes, index: int) -> bool:
    """Whether the label of the item at `index` is set."""
    return bool(bits) and bool(bits[index >> 3] & (128 >> (index & 7)))


def with_set(bits: bytes, index: int) -> bytes:
    """The bits with the label of the item at `index` set."""
    marked = bytearray(bits)
    marked[index >> 3] |= 128 >> (index & 7)
    return bytes(marked)
