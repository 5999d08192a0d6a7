"""Information that the kernel gains, in nats: by compression of user and domain, and by matching with shown items.

A run's file holds, per micro-batch: `examples`, the batch's examples; `compression_nats`, the information that the
compressed representation keeps; `matching_nats`, the batch's information gain, the divergence of the posterior after
the batch from its prior before it; and `domain_matching_nats`, the same gain by domain, whose names are `domains`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.measures import WINDOWS

Floats = NDArray[np.float64]
_PER_BATCH = ("examples", "compression_nats", "matching_nats")
_KEYS = (*_PER_BATCH, "domain_matching_nats", "domains")


@dataclass(frozen=True)
class SeedInformation:
    """Information of one run of the kernel on one stream."""

    seed: int
    compression: float
    """Nats that the compressed representation keeps, mean over the examples."""
    matching: float
    """Nats of matching in sum."""
    examples: int
    """Examples learned."""
    curve: tuple[float, ...]
    """Nats of matching per example in each of `WINDOWS` windows of the examples; not-a-number for one without."""
    domains: dict[str, tuple[float, ...]]
    """Gain by domain name: nats per example of any domain, in the same windows."""

    @property
    def per_example(self) -> float:
        """Nats of matching per example."""
        return self.matching / self.examples


def read_information(path: Path, seed: int) -> SeedInformation | None:
    """The information in a run's file; None if the run did not count any.

    Raises ValueError, which names file and key, for arrays that do not fit each other.
    """
    with np.load(path) as file:
        arrays = {name: np.asarray(file[name]) for name in _KEYS if name in file}
    if not set(_PER_BATCH) <= set(arrays) or not arrays["examples"].sum():
        return None
    _check(path, arrays)
    examples, matching = arrays["examples"].astype(np.float64), arrays["matching_nats"]
    window = _windows(examples)
    domains = arrays.get("domain_matching_nats", np.zeros((len(examples), 0)))
    names = [str(name) for name in arrays["domains"]] if "domains" in arrays else _numbered(domains.shape[1])
    return SeedInformation(
        seed=seed,
        compression=float(np.average(arrays["compression_nats"], weights=examples)),
        matching=float(matching.sum()),
        examples=int(examples.sum()),
        curve=_per_example(matching, examples, window),
        domains={name: _per_example(domains[:, n], examples, window) for n, name in enumerate(names)},
    )


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    batches = arrays["examples"].shape
    by_domain = arrays.get("domain_matching_nats")
    for name in _PER_BATCH:
        if arrays[name].ndim != 1 or arrays[name].shape != batches:
            raise ValueError(f"{path}: {name} has shape {arrays[name].shape}, one value per micro-batch is wanted")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{path}: {name} is not finite")
    if by_domain is not None and (by_domain.ndim != 2 or by_domain.shape[:1] != batches):
        raise ValueError(f"{path}: domain_matching_nats has shape {by_domain.shape}, not (micro-batches, domains)")
    if "domains" in arrays and (by_domain is None or arrays["domains"].shape != by_domain.shape[1:]):
        raise ValueError(f"{path}: domains does not name the columns of domain_matching_nats")


def _windows(examples: Floats) -> NDArray[np.int64]:
    """Window of each micro-batch, by the middle of its examples, `(batches,)`."""
    middle = np.cumsum(examples) - examples / 2
    return np.asarray(np.minimum(middle / examples.sum() * WINDOWS, WINDOWS - 1).astype(np.int64))


def _per_example(nats: Floats, examples: Floats, window: NDArray[np.int64]) -> tuple[float, ...]:
    gained, seen = (np.bincount(window, values, minlength=WINDOWS) for values in (nats, examples))
    return tuple(np.divide(gained, seen, out=np.full(WINDOWS, np.nan), where=seen > 0).tolist())


def _numbered(count: int) -> list[str]:
    return [f"domain {number}" for number in range(count)]
