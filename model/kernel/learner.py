"""Test-then-train: the candidate kernel is scored on every micro-batch before it learns from it.

One call of `Learner.learn` is the whole method:

    1. observe     count the evidence of the batch's domains; give new domains their first parameters
    2. test        the candidate's logit as it would serve now: this is the score that is reported
    3. mix         each arm's weight falls with its log loss on the batch; then the closed-form paths take the batch in
    4. train       one Adam step of the core on the objective (`model.kernel.objective`)
    5. rehearse    `rehearsal_steps` more steps on recent batches; none by default

The tie to the last published kernel is a proximal term, `proximal ||theta - theta_published||^2` (ours), of which only
the gradient is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.backbone.interface import FrozenBackbone
from model.config import KernelConfig, LearnerConfig
from model.kernel.arms import Arms
from model.kernel.batch import MicroBatch
from model.kernel.compatibility import dependencies
from model.kernel.kernel import Kernel, KernelOutput, kernel_output
from model.kernel.new_domains import NewDomains
from model.kernel.objective import Objective, objective
from model.kernel.optimiser import FlatAdam
from model.kernel.rehearsal import Rehearsal
from model.kernel.snapshot import Counters, LearnerState, pack_learner, unpack_learner


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


class _CoreScore(NamedTuple):
    """The core's click logit as it would serve, `(n,)`, and which rows have evidence (None: all)."""

    logit: Tensor
    has_evidence: Tensor | None


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
        self._initial = self._optimiser.values.clone()
        self._anchor = self._optimiser.values.clone()
        self._generator = torch.Generator().manual_seed(learner_config.seed)
        self._arms = Arms(self.candidate, learner_config)
        self._new_domains = NewDomains(self.candidate)
        self._rehearsal = Rehearsal(
            self.candidate, self.recent, learner_config.rehearsal_plan, learner_config.batch_examples
        )

    def _new_kernel(self) -> Kernel:
        return Kernel(
            self.kernel_config, width=self.backbone.width, live_width=self.live_width, domain_sizes=self.domain_sizes,
            trunk_width=getattr(self.backbone, "trunk_width", None), seed=self.config.seed,
        )  # fmt: skip

    # --- test, then train ---

    def learn(self, batch: MicroBatch) -> LearnReport:
        """Scores the batch, then learns from it, in the five steps that the module describes.

        Raises ValueError, naming the field, for a wrong shape or non-finite values; nothing is changed then.
        """
        batch.check(self.backbone.width, self.live_width, self.domain_sizes)
        score = self._observe(batch)
        output = self._train_forward(batch)
        # Where nothing is sampled and no row is held back, the training pass gives the served logit: one pass is saved.
        score = score or _CoreScore(output.logits[:, 0].detach(), None)
        features = self._arms.observe(batch)
        logit = self.candidate.mix(score.logit, batch.frozen_logit, features, score.has_evidence)
        # The arms learn before the core: its step then fits only what the paths leave over (docs/decisions/0063).
        self._arms.learn(score.logit, batch, features, score.has_evidence)
        loss, gradient_norm = self._gradient_step(output, batch, features)
        self.recent.append(batch)
        self._rehearsal.index_latest()
        steps = 1 + self._rehearse()
        self.batches += 1
        self.examples += len(batch)
        return LearnReport(
            examples=len(batch), candidate_logit=logit, loss=loss.task, compression=loss.compression,
            matching=loss.matching, gradient_norm=gradient_norm, steps=steps, trust=self._arms.trust,
        )  # fmt: skip

    def _observe(self, batch: MicroBatch) -> _CoreScore | None:
        """Counts evidence and initialises new domains.

        Returns the candidate's score from before, where the training pass will not compute the same: if a domain is
        new (its parameters change here), if the bottleneck is sampled, or if rows without evidence are held back.
        """
        config = self.kernel_config
        any_unseen = self._new_domains.any_unseen(batch.domain)
        score = None
        if any_unseen or config.reading != "D" or config.min_evidence:
            score = self._score_core(batch)
        if not any_unseen:
            self._new_domains.count(batch.x, batch.domain)
            return score
        before = self._optimiser.values.clone()
        if self._new_domains.observe(batch.x, batch.domain):
            # Moments of the replaced values say nothing of the new ones, and the tie would pull back to the old ones.
            changed = self._optimiser.values != before
            self._optimiser.reset(changed)
            self._anchor[changed] = self._optimiser.values[changed]
        return score

    @torch.no_grad()
    def _score_core(self, batch: MicroBatch) -> _CoreScore:
        logits = kernel_output(self.candidate, self.backbone, batch.x, batch.live, batch.domain).logits
        return _CoreScore(logits[:, 0], self.candidate.has_evidence(batch.domain))

    def score(self, batch: MicroBatch) -> Tensor:
        """Logits of the candidate as it would serve, `(n,)`."""
        score, features = self._score_core(batch), self.candidate.features(batch.x, batch.live)
        return self.candidate.mix(score.logit, batch.frozen_logit, features, score.has_evidence)

    def _train_forward(self, batch: MicroBatch) -> KernelOutput:
        """The core as it learns: its bottleneck sampled, rows without evidence included."""
        noise = None if self.kernel_config.reading == "D" else self._generator
        return kernel_output(self.candidate, self.backbone, batch.x, batch.live, batch.domain, noise, learning=True)

    def _gradient_step(
        self, output: KernelOutput, batch: MicroBatch, features: Tensor | None
    ) -> tuple[Objective, float]:
        """One step of the core beside the closed-form paths; the objective and the gradient's norm before clipping."""
        optimiser, config = self._optimiser, self.config
        path = None if features is None else features @ self._arms.mixed_weights
        loss = objective(
            output, path, batch, reading=self.kernel_config.reading, config=config, step=optimiser.steps + 1,
            has_conversion=self.backbone.has_conversion,
        )  # fmt: skip
        optimiser.zero_gradient()
        loss.total.backward()  # type: ignore[no-untyped-call]
        if config.proximal:
            optimiser.gradient.add_(optimiser.values - self._anchor, alpha=2 * config.proximal)
        return loss, optimiser.step(config.gradient_clip)

    def _rehearse(self) -> int:
        """Steps on recent batches; returns their number."""
        # Off by default: the closed-form paths keep the past in their precision, without steps (docs/decisions/0063).
        steps = self.config.rehearsal_steps if self.recent else 0
        for _ in range(steps):
            drawn = self._rehearsal.draw(self._generator)
            self._gradient_step(self._train_forward(drawn), drawn, self.candidate.features(drawn.x, drawn.live))
        return steps

    # --- publication ---

    def move_anchor(self) -> None:
        """Ties the core to where it stands now, as every publication does."""
        self._anchor.copy_(self._optimiser.values)

    def publish(self) -> Kernel:
        """A detached copy of the candidate, ready to serve; the proximal term's anchor moves to it."""
        self.move_anchor()
        kernel = self._new_kernel()
        kernel.load_state_dict(self.candidate.state_dict())
        return kernel.requires_grad_(False)

    @property
    def parameters(self) -> int:
        """Numbers that learning changes: core, linear paths, weights of the arms."""
        return int(self._optimiser.values.numel()) + self._arms.parameters

    @property
    def state_bytes(self) -> int:
        """Bytes of what learning keeps: parameters, gradient, moments, anchor, posteriors; `recent` not counted."""
        return 5 * 4 * int(self._optimiser.values.numel()) + sum(t.nbytes for t in self._arms.state().values())

    def distance(self) -> float:
        """L2 distance of the candidate from its initialisation."""
        moved = torch.linalg.vector_norm(self._optimiser.values - self._initial)
        return float(torch.hypot(moved, torch.linalg.vector_norm(self.candidate.path)))

    # --- state ---

    def snapshot(self) -> bytes:
        """All but `recent`, which the log has: candidate, anchor, paths, trust, optimiser, counters, random state."""
        return pack_learner(self._state())

    def check(self, data: bytes) -> None:
        """Raises ContainerError if `restore` cannot take this snapshot; the message names what differs and the cure."""
        unpack_learner(data, self._state())

    def restore(self, data: bytes, recent: Sequence[MicroBatch]) -> None:
        """Goes back to a snapshot; the continuation is bit-identical. `recent` as it was, oldest first.

        Raises ContainerError as `check` does; nothing is changed then.
        """
        state = unpack_learner(data, self._state())
        tensors, counters = state.tensors, state.counters
        self._optimiser.values.copy_(tensors["values"])
        self._anchor.copy_(tensors["anchor"])
        self.candidate.evidence.copy_(tensors["evidence"])
        self._new_domains.sums.copy_(tensors["domain_sums"])
        self._arms.load(tensors)
        self._generator.set_state(tensors["generator"])
        self._optimiser.load(tensors, counters.steps)
        self.batches, self.examples = counters.batches, counters.examples
        self.recent.clear()
        self.recent.extend(recent)
        self._rehearsal.reindex()

    def _state(self) -> LearnerState:
        tensors = {
            "values": self._optimiser.values,
            "anchor": self._anchor,
            "evidence": self.candidate.evidence,
            "domain_sums": self._new_domains.sums,
            "generator": self._generator.get_state(),
            **self._arms.state(),
            **self._optimiser.state(),
        }
        # Half-lives may be tuned under a running learner, their number may not: there is a posterior for each.
        depends_on = {
            **dependencies(self.candidate),
            "learner.path_half_lives.count": len(self.config.path_half_lives),
        }
        counters = Counters(self.batches, self.examples, self._optimiser.steps)
        return LearnerState(tensors, counters, self.backbone.fingerprint, depends_on)
