"""Settings of the paper's kernel: which reading of it, and its sizes, which are ours because the paper's are not
public."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Facet = Literal["scene", "region", "period"]


@dataclass(frozen=True)
class PaperSettings:
    """One form of the paper's kernel."""

    reading: Literal["A", "B", "D"] = "D"
    """Gaussian of the bottleneck: A prior N(0, I), B learned per domain, D deterministic."""
    bank_facets: tuple[Facet, ...] = ()
    """Facets that have an encoder and a decoder for each of their values; without any, one pair serves all."""
    latent: int = 16
    """Width z of the compressed representation."""
    hidden: int = 48
    """Hidden width of encoder and decoder."""
    domain_width: int = 8
    """Width of the domain embedding that the decoder sees."""
    beta: float = 1e-3
    """Weight of the KL term of compression in reading A."""
    l1: float = 1e-3
    """Weight of the KL term of compression in reading B."""
    l2: float = 1e-3
    """Weight of the KL term of matching in reading B."""
    warmup_steps: int = 200
    """Steps over which these weights grow from zero."""
