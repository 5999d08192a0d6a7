"""Test-then-train: the candidate kernel is scored on every micro-batch before it learns from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from reprlib import repr as shortened
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from model.backbone.interface import FrozenBackbone
from model.config import KernelConfig, LearnerConfig
from model.container import ContainerError, check_shapes, pack, unpack
from model.kernel.arms import Arms
from model.kernel.batch import MicroBatch
from model.kernel.birth import Births
from model.kernel.compatibility import dependencies, difference
from model.kernel.kernel import Answer, Kernel, answer
from model.kernel.optimiser import FlatAdam
from model.kernel.rehearsal import Rehearsal
from model.losses import entire_space_loss

_FRESH_TOPICS = "give this one topics of its own (topics.kernels, topics.state)"


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
    trust: float
    """Share of the kernel in what it would serve now, 0 to 1."""


@dataclass(frozen=True)
class _Counters:
    """What a snapshot counts; steps are those of the optimiser, rehearsal included."""

    batches: int
    examples: int
    steps: int


class _Scored(NamedTuple):
    """The core's logit in evaluation mode, and which rows have evidence enough (None: all)."""

    core: Tensor
    enough: Tensor | None


class _Step(NamedTuple):
    """Loss and information terms, nats per example, and the gradient's norm before clipping."""

    loss: float
    compression: float
    matching: float
    norm: float


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
        kept = learner_config.rehearsal_batches if learner_config.rehearsal_steps else 0
        self.recent: deque[MicroBatch] = deque(maxlen=kept)
        """Recent micro-batches, oldest first, for rehearsal if there is any. Not in the snapshot: the log has them."""
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
        self._arms = Arms(self.candidate, learner_config)
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
        """Scores the batch, judges the arms by it, then learns: the closed-form paths at once, the core by one step.

        `rehearsal_steps` steps of the core on batches drawn from `recent` follow. Raises ValueError, naming the field,
        for a wrong shape or non-finite values; nothing is changed then.
        """
        batch.check(self.backbone.width, self.live_width, self.domain_sizes)
        scored = self._meet(batch)
        found = self._forward(batch)
        scored = scored or _Scored(found.logits[:, 0].detach(), None)
        features = self._arms.meet(batch)
        logit = self.candidate.mix(scored.core, batch.frozen_logit, features, scored.enough)
        self._arms.learn(scored.core, batch, features, scored.enough)
        first = self._descend(found, batch, features)
        self.recent.append(batch)
        self._rehearsal.added()
        steps = self.config.rehearsal_steps if self.recent else 0
        for _ in range(steps):
            drawn = self._rehearsal.draw(self._generator)
            self._descend(self._forward(drawn), drawn, self.candidate.features(drawn.x, drawn.live))
        self.batches += 1
        self.examples += len(batch)
        return LearnReport(
            examples=len(batch), candidate_logit=logit, loss=first.loss, compression=first.compression,
            matching=first.matching, gradient_norm=first.norm, steps=1 + steps, trust=self._arms.trust,
        )  # fmt: skip

    def _meet(self, batch: MicroBatch) -> _Scored | None:
        """Counts evidence; returns the candidate's score where the first step will not compute the same.

        What is born starts without momentum, and is tied to what it was born as.
        """
        config = self.kernel_config
        strange = self._births.strange(batch.domain)
        scored = None
        if strange or config.reading != "D" or config.min_evidence:
            scored = self._scored(batch)
        if not strange:
            self._births.count(batch.x, batch.domain)
            return scored
        before = self._optimiser.values.clone()
        if self._births.meet(batch.x, batch.domain):
            changed = self._optimiser.values != before
            self._optimiser.forget(changed)
            self._anchor[changed] = self._optimiser.values[changed]
        return scored

    @torch.no_grad()
    def _scored(self, batch: MicroBatch) -> _Scored:
        core = answer(self.candidate, self.backbone, batch.x, batch.live, batch.domain).logits[:, 0]
        return _Scored(core, self.candidate.answers(batch.domain))

    def score(self, batch: MicroBatch) -> Tensor:
        """Logits of the candidate as it would serve, `(n,)`."""
        scored, features = self._scored(batch), self.candidate.features(batch.x, batch.live)
        return self.candidate.mix(scored.core, batch.frozen_logit, features, scored.enough)

    def _forward(self, batch: MicroBatch) -> Answer:
        """The core as it learns, its bottleneck sampled."""
        noise = None if self.kernel_config.reading == "D" else self._generator
        return answer(self.candidate, self.backbone, batch.x, batch.live, batch.domain, noise, learning=True)

    def _descend(self, found: Answer, batch: MicroBatch, features: Tensor | None) -> _Step:
        """One step of the core beside the closed-form paths."""
        optimiser, config = self._optimiser, self.config
        ctr, cvr = found.logits.unbind(1)
        if features is not None:
            ctr = ctr + features @ self._arms.believed
        task = entire_space_loss(
            (ctr, cvr), batch.label, batch.conversion, self.backbone.has_conversion, batch.weight
        )  # fmt: skip
        total, compression, matching = task, 0.0, 0.0
        if self.kernel_config.reading != "D":
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
        return _Step(float(task.detach()), compression, matching, norm)

    def tie(self) -> None:
        """Ties the core to where it stands now, as every publication does."""
        self._anchor.copy_(self._optimiser.values)

    def publish(self) -> Kernel:
        """A detached copy of the candidate, ready to answer; the proximal tie moves to it."""
        self.tie()
        kernel = self._new_kernel()
        kernel.load_state_dict(self.candidate.state_dict())
        return kernel.requires_grad_(False)

    @property
    def parameters(self) -> int:
        """Numbers that learning changes: core, straight paths, weights of the arms."""
        return int(self._optimiser.values.numel()) + self._arms.parameters

    @property
    def state_bytes(self) -> int:
        """Bytes of what learning keeps: parameters, gradient, moments, anchor, posteriors; `recent` not counted."""
        return 5 * 4 * int(self._optimiser.values.numel()) + sum(t.nbytes for t in self._arms.state().values())

    def distance(self) -> float:
        """L2 distance of the candidate from its birth."""
        moved = torch.linalg.vector_norm(self._optimiser.values - self._birth)
        return float(torch.hypot(moved, torch.linalg.vector_norm(self.candidate.path)))

    def snapshot(self) -> bytes:
        """All but `recent`, which the log has: candidate, anchor, paths, trust, optimiser, counters, random state."""
        tensors = {
            "values": self._optimiser.values,
            "anchor": self._anchor,
            "evidence": self.candidate.evidence,
            "domain_sums": self._births.sums,
            "generator": self._generator.get_state(),
            **self._arms.state(),
            **self._optimiser.state(),
        }
        return pack(tensors, self._metadata())

    def _metadata(self) -> dict[str, Any]:
        return {
            "kind": "learner",
            "backbone_fingerprint": self.backbone.fingerprint,
            "depends_on": self._dependencies(),
            **asdict(_Counters(self.batches, self.examples, self._optimiser.steps)),
        }

    def _dependencies(self) -> dict[str, Any]:
        # Half-lives may be tuned under a running learner, their number may not: there is a posterior for each.
        return {
            **dependencies(self.candidate),
            "learner.path_half_lives.count": len(self.config.path_half_lives),
        }

    def check(self, data: bytes) -> None:
        """Raises ContainerError if `restore` cannot take this snapshot; the message names what differs and the cure."""
        self._read(data)

    def restore(self, data: bytes, recent: Sequence[MicroBatch]) -> None:
        """Goes back to a snapshot; the continuation is bit-identical. `recent` as it was, oldest first.

        Raises ContainerError, with nothing changed, if the snapshot is damaged or was made by another backbone, kernel
        configuration or format.
        """
        tensors, counters = self._read(data)
        self._optimiser.values.copy_(tensors["values"])
        self._anchor.copy_(tensors["anchor"])
        self.candidate.evidence.copy_(tensors["evidence"])
        self._births.sums.copy_(tensors["domain_sums"])
        self._arms.load(tensors)
        self._generator.set_state(tensors["generator"])
        self._optimiser.load({"first": tensors["first"], "second": tensors["second"]}, counters.steps)
        self.batches, self.examples = counters.batches, counters.examples
        self.recent.clear()
        self.recent.extend(recent)
        self._rehearsal.restart()

    def _read(self, data: bytes) -> tuple[dict[str, Tensor], _Counters]:
        tensors, metadata = unpack(data)
        own, stored = self._metadata(), metadata.get("depends_on")
        for key in ("kind", "backbone_fingerprint"):
            if metadata.get(key) != own[key]:
                raise ContainerError(f"learner snapshot: {key} is {shortened(metadata.get(key))}, here {own[key]!r}")
        if not isinstance(stored, dict):
            raise ContainerError(f"learner snapshot: another version of Driftline wrote it; {_FRESH_TOPICS}")
        if stored != own["depends_on"]:
            clause = difference(stored, own["depends_on"], "snapshot")
            raise ContainerError(f"learner snapshot: {clause}; go back to that configuration, or {_FRESH_TOPICS}")
        check_shapes(tensors, unpack(self.snapshot())[0])
        try:
            return tensors, msgspec.convert(metadata, _Counters)
        except msgspec.ValidationError as error:
            raise ContainerError(f"learner snapshot: {error}") from error
