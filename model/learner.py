"""Test-then-train: the candidate kernel is scored on every micro-batch before it learns from it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from model.backbone import FrozenBackbone
from model.batch import MicroBatch
from model.birth import Births
from model.config import KernelConfig, LearnerConfig
from model.container import ContainerError, check_shapes, pack, unpack
from model.kernel import Kernel, adapt, answer
from model.losses import entire_space_loss
from model.optimiser import FlatAdam
from model.rehearsal import Rehearsal


@dataclass(frozen=True)
class LearnReport:
    """What one micro-batch taught."""

    examples: int
    candidate_logit: Tensor
    """Logit of the candidate before it learned from the batch, float32 `(n,)`."""
    loss: float
    """Weighted log loss of the first step, nats per example."""
    compression: float
    """`KL(q(Gbar|x) || prior)`, nats per example; 0 for reading D."""
    matching: float
    """`KL(q(G^|x) || N(m_k, t_k^2))`, nats per example; 0 but for reading B."""
    gradient_norm: float
    """L2 norm of the first step's gradient, before clipping."""
    steps: int
    """Steps taken, rehearsal included."""


class Learner:
    """Owns the candidate kernel of one group. Everything random comes from its own generator.

    Bit-for-bit replay needs the same number of torch threads: use one.
    """

    def __init__(
        self, backbone: FrozenBackbone, kernel_config: KernelConfig, learner_config: LearnerConfig, *,
        live_width: int, domain_sizes: tuple[int, int, int],
    ) -> None:  # fmt: skip
        self.backbone, self.kernel_config, self.config = backbone, kernel_config, learner_config
        self.live_width, self.domain_sizes = live_width, domain_sizes
        self.recent: deque[MicroBatch] = deque(maxlen=learner_config.rehearsal_batches)
        """Recent micro-batches, oldest first, for rehearsal. Not in the snapshot: the log has them."""
        self.batches = self.examples = 0
        self.candidate = self._new_kernel()
        self._optimiser = FlatAdam(
            [
                (self.candidate.core_parameters(), learner_config.learning_rate),
                (self.candidate.linear_parameters(), learner_config.linear_learning_rate),
            ]
        )
        self._birth = self._optimiser.values.clone()
        self._anchor = self._optimiser.values.clone()
        self._generator = torch.Generator().manual_seed(learner_config.seed)
        self._births = Births(self.candidate)
        self._rehearsal = Rehearsal(
            self.candidate, self.recent, learner_config.rehearsal_plan, learner_config.batch_examples
        )

    def _new_kernel(self) -> Kernel:
        return Kernel(
            self.kernel_config, width=self.backbone.width, live_width=self.live_width, domain_sizes=self.domain_sizes,
            trunk_width=getattr(self.backbone, "trunk_width", None), seed=self.config.seed,
        )  # fmt: skip

    def learn(self, batch: MicroBatch) -> LearnReport:
        """Scores the batch, takes one step on it, then `rehearsal_steps` steps on batches drawn from `recent`.

        Raises ValueError, naming the field, for a wrong shape or non-finite values; nothing is changed then.
        """
        self.check(batch)
        scored = self._meet(batch)
        loss, compression, matching, norm, logit = self._step(batch)
        logit = scored if scored is not None else logit
        self.recent.append(batch)
        self._rehearsal.added()
        steps = self.config.rehearsal_steps if self.recent else 0
        for _ in range(steps):
            self._step(self._rehearsal.draw(self._generator))
        self.batches += 1
        self.examples += len(batch)
        return LearnReport(len(batch), logit, loss, compression, matching, norm, 1 + steps)

    def _meet(self, batch: MicroBatch) -> Tensor | None:
        """Counts evidence; returns the candidate's score where the first step will not compute the same.

        What is born starts without momentum, and is tied to what it was born as.
        """
        config = self.kernel_config
        plain = config.reading == "D" and config.min_evidence == 0 and not self._births.strange(batch.domain)
        if plain:
            self._births.meet(batch.x, batch.domain)
            return None
        scored = self.score(batch)
        before = self._optimiser.values.clone()
        if self._births.meet(batch.x, batch.domain):
            changed = self._optimiser.values != before
            self._optimiser.forget(changed)
            self._anchor[changed] = self._optimiser.values[changed]
        return scored

    @torch.no_grad()
    def score(self, batch: MicroBatch) -> Tensor:
        """Logits of the candidate as it would serve, `(n,)`."""
        self.candidate.eval()
        return adapt(self.candidate, self.backbone, batch.x, batch.live, batch.domain)

    def _step(self, batch: MicroBatch) -> tuple[float, float, float, float, Tensor]:
        self.candidate.train()
        optimiser, config = self._optimiser, self.config
        noise = None if self.kernel_config.reading == "D" else self._generator
        found = answer(self.candidate, self.backbone, batch.x, batch.live, batch.domain, noise)
        task = entire_space_loss(
            found.logits, batch.label, batch.conversion, self.backbone.has_conversion, batch.weight
        )
        total, compression, matching = task, 0.0, 0.0
        if noise is not None:
            warm = min(1.0, (optimiser.steps + 1) / max(1, config.warmup_steps))
            rate, match = found.compression.mean(), found.matching.mean()
            first = config.beta if self.kernel_config.reading == "A" else config.l1
            total = total + warm * (first * rate + config.l2 * match)
            compression, matching = float(rate.detach()), float(match.detach())
        optimiser.zero_gradient()
        total.backward()  # type: ignore[no-untyped-call]
        if config.proximal:
            optimiser.gradient.add_(optimiser.values - self._anchor, alpha=2 * config.proximal)
        norm = optimiser.step(config.gradient_clip)
        return float(task.detach()), compression, matching, norm, found.logits[:, 0].detach()

    def check(self, batch: MicroBatch) -> None:
        """Raises ValueError, naming the field, for a wrong shape, a domain index out of range, or non-finite values."""
        n = len(batch)
        if n == 0:
            raise ValueError("micro-batch: no examples")
        widths = {"x": (n, self.backbone.width), "live": (n, self.live_width), "domain": (n, 3)}
        for field in fields(batch):
            if field.name == "origin":
                continue
            value: Tensor = getattr(batch, field.name)
            shape = widths.get(field.name, (n,))
            if tuple(value.shape) != shape:
                raise ValueError(f"micro-batch: {field.name} has shape {tuple(value.shape)}, expected {shape}")
            # One sum is quicker than a test per value; a sum of finite values may overflow, so look closer then.
            if not math.isfinite(float(value.sum())) and not bool(torch.isfinite(value).all()):
                raise ValueError(f"micro-batch: {field.name} has non-finite values")
        highest = batch.domain.amax(0).tolist()
        if int(batch.domain.min()) < 0 or any(h >= size for h, size in zip(highest, self.domain_sizes, strict=True)):
            raise ValueError(f"micro-batch: domain has an index outside {self.domain_sizes}")

    def publish(self) -> Kernel:
        """A detached copy of the candidate, ready to answer; it becomes the anchor of the proximal tie."""
        self._anchor.copy_(self._optimiser.values)
        kernel = self._new_kernel()
        kernel.load_state_dict(self.candidate.state_dict())
        return kernel.requires_grad_(False).eval()

    def distance(self) -> float:
        """L2 distance of the candidate from its birth."""
        return float(torch.linalg.vector_norm(self._optimiser.values - self._birth))

    def snapshot(self) -> bytes:
        """Candidate, anchor, optimiser, counters, random state; not `recent`. Equal states give equal bytes."""
        tensors = {
            "values": self._optimiser.values,
            "anchor": self._anchor,
            "evidence": self.candidate.evidence,
            "domain_sums": self._births.sums,
            "generator": self._generator.get_state(),
            **self._optimiser.state(),
        }
        return pack(tensors, self._metadata())

    def _metadata(self) -> dict[str, Any]:
        return {
            "kind": "learner",
            "backbone_fingerprint": self.backbone.fingerprint,
            "kernel": self.kernel_config.model_dump(mode="json"),
            "batches": self.batches,
            "examples": self.examples,
            "steps": self._optimiser.steps,
        }

    def restore(self, data: bytes, recent: Sequence[MicroBatch]) -> None:
        """Goes back to a snapshot; the continuation is bit-identical. `recent` as it was, oldest first.

        Raises ContainerError if the snapshot is damaged or belongs to another backbone or kernel configuration.
        """
        tensors, metadata = unpack(data)
        own = self._metadata()
        for key in ("kind", "backbone_fingerprint", "kernel"):
            if metadata.get(key) != own[key]:
                raise ContainerError(f"learner snapshot: {key} is {metadata.get(key)!r}, expected {own[key]!r}")
        current, _ = unpack(self.snapshot())
        check_shapes(tensors, current)
        self._optimiser.values.copy_(tensors["values"])
        self._anchor.copy_(tensors["anchor"])
        self.candidate.evidence.copy_(tensors["evidence"])
        self._births.sums.copy_(tensors["domain_sums"])
        self._generator.set_state(tensors["generator"])
        self._optimiser.load({"first": tensors["first"], "second": tensors["second"]}, int(metadata["steps"]))
        self.batches, self.examples = int(metadata["batches"]), int(metadata["examples"])
        self.recent.clear()
        self.recent.extend(recent)
        self._rehearsal.restart()
