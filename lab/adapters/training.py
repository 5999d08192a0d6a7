"""The training loop shared by all adapters that are trained by gradient (docs/decisions/0061)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GradientTraining:
    """Sizes and numbers of steps; each adapter's rate is its own (docs/decisions/0062)."""

    batch_examples: int = 128
    """Examples of a micro-batch, for every adapter of the lab, and of a batch of one domain.

    A processor takes more at once, but only where they come within `learner.batch_seconds`; the lab's streams are
    slower (docs/decisions/0149)."""
    rehearsal_steps: int = 2
    """Steps on recent batches after each new one: full fine-tuning gains most by two."""
    rehearsal_batches: int = 32
    """Recent micro-batches that are kept for them."""
    gradient_clip: float = 1.0
    """Largest L2 norm of a step's gradient."""
    linear_rate: float = 1e-2
    """Learning rate of a linear head on T beside a network, which learns at a rate of its own."""
