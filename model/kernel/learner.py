"""Test-then-train: the candidate kernel is scored on every micro-batch before it learns from it.

One call of `Learner.learn` is the whole method:

    1. test     The candidate scores the batch as it would serve it now. This score is the one that is reported.
    2. trust    The weight of each arm falls with its log loss on the batch.
    3. match    The posteriors learn the batch in closed form.
    4. mix      The new candidate's weights are those of the arms, averaged by trust.

`Learner.correct` learns clicks that arrive after their example was learned as a negative. Nothing here is random.
Bit-for-bit replay needs the same number of torch threads: use one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import LearnerConfig
from model.container import ContainerError
from model.kernel.batch import MicroBatch
from model.kernel.compatibility import dependencies
from model.kernel.features import FeatureMap
from model.kernel.kernel import Kernel
from model.kernel.posterior import BatchLikelihood, Expansion, Posterior
from model.kernel.snapshot import LearnerState, pack_learner, unpack_learner
from model.kernel.start import KernelStart
from model.kernel.trust import ARMS, DIRECT, FROZEN, LONG, SHORT, Trust

_PRECISION_COUNTER = 5.0
"""Prior precision of a counter's weight, in examples; the frozen logit's and the constant's is 1."""
_PRECISION_RESIDUAL = 100.0
"""Prior precision of a weight of T: it has many columns, and each is noisy (docs/decisions/0083)."""
_PRECISION_MATCHING = 20.0
"""Prior precision of a weight of the matching."""


@dataclass(frozen=True)
class LearnReport:
    """What the learner reports of one micro-batch."""

    examples: int
    candidate_logit: Tensor
    """Logit of the candidate before it learned from the batch, float32 `(n,)`."""
    learned_logit: Tensor
    """Logit of the candidate after it learned from the batch, float32 `(n,)`."""
    arms: dict[str, float]
    """Share of each arm in the new candidate; they sum to 1."""
    matching: float
    """Probability that the matching helps, 0 to 1, given the evidence so far."""


class Learner:
    """The test-then-train learner of one group, with its candidate kernel."""

    def __init__(
        self, start: KernelStart, config: LearnerConfig, *, fingerprint: str, domain_sizes: tuple[int, int, int]
    ) -> None:
        """`fingerprint` is the backbone's: a snapshot says which it was learned on."""
        self.start, self.config, self.domain_sizes, self.fingerprint = start, config, domain_sizes, fingerprint
        self._map: FeatureMap = start.features
        short, long = config.half_lives
        whole, direct = self._map.width, self._map.direct
        prior = prior_precision(self._map)
        self._trust, self._identity = Trust(config), self._map.identity()
        self._short = Posterior(self._identity, prior, short, [whole]).started_from(
            [start.mean], start.precision, start.examples
        )
        self._long = Posterior(self._identity, prior, long, [whole, direct]).started_from(
            [start.mean, start.direct_mean], start.precision, start.examples
        )
        self.batches = self.examples = 0
        self.candidate = Kernel.identity(start)

    def learn(self, batch: MicroBatch) -> LearnReport:
        """Scores the batch, then learns from it, in the four steps that the module describes.

        Raises ValueError, naming the field, for a wrong shape or non-finite values, FloatingPointError if the numbers
        leave what single precision holds; nothing is changed then.
        """
        batch.check(self.start, self.domain_sizes)
        features = self._map.features(batch.inputs)
        # 1. Test.
        candidate = self._logit(features, batch)
        arms = self._arm_logits(features, batch.frozen_logit)
        # 3. Match: the natural parameters of a batch do not depend on a posterior, so both share them (decision 0095).
        expansion = Expansion(batch.live_logit, self._map.overall_rate(features))
        likelihood = BatchLikelihood.of(features, batch.label, batch.weight, expansion)
        short, long = self._short.after(likelihood), self._long.after(likelihood)
        # 2. Trust: uses the logits from before any arm learned the batch. Nothing below this line can fail.
        self._trust.update(arms, batch.label, batch.weight)
        # 4. Mix.
        self._short, self._long = short, long
        self.batches += 1
        self.examples += len(batch)
        self.candidate = Kernel(self.start, self._mixed_weights())
        return LearnReport(len(batch), candidate, self._logit(features, batch), self.arms, self._trust.matching)

    def correct(self, batch: MicroBatch, learned_at: NDArray[np.int64]) -> None:
        """Teaches clicks that came after their examples had been learned as not clicked.

        `batch` holds those examples with their labels at 1; `learned_at` `(n,)` is `examples` as it was right after the
        micro-batch that taught each. The posteriors are then those of a stream whose clicks were on time. Trust is not
        corrected: it forgets within a few hundred examples, and an error of the past cannot be served better
        (docs/decisions/0095). Raises as `learn` does; nothing is changed then.
        """
        batch.check(self.start, self.domain_sizes)
        if float(batch.label.min()) < 1:
            raise ValueError("correction: label has a value that is not 1")
        if learned_at.shape != (len(batch),) or learned_at.min() < 1 or learned_at.max() > self.examples:
            raise ValueError(f"correction: learned_at must be {len(batch)} numbers of 1 to {self.examples} examples")
        features = self._map.features(batch.inputs)
        age = torch.from_numpy(self.examples - learned_at.astype(np.float64))
        self._short = self._short.corrected(features, batch.weight, age)
        self._long = self._long.corrected(features, batch.weight, age)
        self.candidate = Kernel(self.start, self._mixed_weights())

    def score(self, batch: MicroBatch) -> Tensor:
        """Logits of the candidate as it would serve the batch, `(n,)`."""
        return self.candidate.logit(batch.inputs)

    def _logit(self, features: Tensor, batch: MicroBatch) -> Tensor:
        """As `score`, to rounding, of features that are already computed, `(n, p)`."""
        return batch.frozen_logit + features @ (self.candidate.weights - self._identity)

    def _arm_logits(self, features: Tensor, frozen: Tensor) -> Tensor:
        """Logits of the arms, in the order of `ARMS`, `(4, n)`."""
        direct, short, long = (
            self._long.logit(features, 1),
            self._short.logit(features, 0),
            self._long.logit(features, 0),
        )
        return torch.stack([frozen, direct, short, long])

    def _mixed_weights(self) -> Tensor:
        """The candidate's weights: the mean of the arms' weights by trust, because logits are linear in the weights."""
        share = self._trust.weights.float()
        mixed = share[SHORT] * self._short.means[0] + share[LONG] * self._long.means[0]
        mixed[0] += share[FROZEN]
        mixed[: self._map.direct] += share[DIRECT] * self._long.means[1]
        return mixed

    # --- what was learned ---

    @property
    def arms(self) -> dict[str, float]:
        """Share of each arm in what the candidate would serve."""
        return dict(zip(ARMS, self._trust.weights.tolist(), strict=True))

    def nats(self) -> float:
        """`KL(posterior || prior)` at the long memory: what matching has taught so far, nats."""
        return self._long.nats()

    def gain(self, batch: MicroBatch) -> Tensor:
        """Expected information of each example's label under the present posterior, nats, `(n,)`."""
        features = self._map.features(batch.inputs)
        return self._long.gain(features, self.score(batch))

    @property
    def parameters(self) -> int:
        """Number of learned numbers in a kernel record: the kernel's weights and the arms' shares."""
        return self._map.width + len(ARMS)

    @property
    def state_bytes(self) -> int:
        """Bytes of the learner's state: posteriors and trust."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def distance(self) -> float:
        """L2 distance of the candidate's weights from those of the identity."""
        return float(torch.linalg.vector_norm(self.candidate.weights - self._identity))

    # --- state ---

    def snapshot(self) -> bytes:
        """The learner's whole state: posteriors, trust, and the numbers of batches and examples."""
        return pack_learner(self._state())

    def check(self, data: bytes) -> None:
        """Raises ContainerError if `restore` cannot take this snapshot; the message names what differs and the cure."""
        self._read(data)

    def restore(self, data: bytes) -> None:
        """Restores a snapshot; learning then continues bit for bit as it did after the snapshot.

        Raises ContainerError as `check` does; nothing is changed then.
        """
        self._take(*self._read(data))

    def restore_sum(self, snapshots: Sequence[bytes]) -> None:
        """Starts from the sum of what several groups learned apart. This learner must be new.

        Natural parameters are added; trust is the mean, weighted by examples. If only one of the groups has learned,
        this is `restore`. Raises ContainerError as `check` does.
        """
        whole = [self._read(data) for data in snapshots]
        read = [part for part in whole if part[0].examples] or whole[:1]
        if len(read) == 1:
            return self._take(*read[0])
        counts = [state.examples for state, _, _ in read]
        self._short = self._short.joined([(short, state.examples) for state, short, _ in read])
        self._long = self._long.joined([(long, state.examples) for state, _, long in read])
        trusts = [_part(state, "trust") for state, _, _ in read]
        shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
        for name, tensor in trusts[0].items():
            trusts[0][name] = torch.tensordot(shares, torch.stack([trust[name] for trust in trusts]), 1).to(tensor)
        self._trust.load(trusts[0])
        self.batches, self.examples = sum(state.batches for state, _, _ in read), sum(counts)
        self.candidate = Kernel(self.start, self._mixed_weights())
        return None

    def _take(self, state: LearnerState, short: Posterior, long: Posterior) -> None:
        self._short, self._long = short, long
        self._trust.load(_part(state, "trust"))
        self.batches, self.examples = state.batches, state.examples
        self.candidate = Kernel(self.start, self._mixed_weights()) if self.batches else Kernel.identity(self.start)

    def _read(self, data: bytes) -> tuple[LearnerState, Posterior, Posterior]:
        state = unpack_learner(data, self._state())
        try:
            return state, self._short.restored(_part(state, "short")), self._long.restored(_part(state, "long"))
        except FloatingPointError as error:
            raise ContainerError(f"learner snapshot: {error}") from error

    def _tensors(self) -> dict[str, Tensor]:
        parts: dict[str, Posterior | Trust] = {"short": self._short, "long": self._long, "trust": self._trust}
        return {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state().items()}

    def _state(self) -> LearnerState:
        return LearnerState(
            self._tensors(), self.batches, self.examples, self.fingerprint, dependencies(self.start, self.domain_sizes)
        )


def _part(state: LearnerState, name: str) -> dict[str, Tensor]:
    """The tensors of one part of a learner's state, without the part's prefix in their names."""
    return {key.removeprefix(f"{name}."): t for key, t in state.tensors.items() if key.startswith(f"{name}.")}


def prior_precision(features: FeatureMap) -> Tensor:
    """Prior precisions tau of all weights, float32 `(p,)`, in examples, chosen on tuning seeds (decision 0083)."""
    blocks = (
        (2, 1.0),
        (features.counters, _PRECISION_COUNTER),
        (features.residuals, _PRECISION_RESIDUAL),
        (features.width - features.direct, _PRECISION_MATCHING),
    )
    return torch.cat([torch.full((size,), precision) for size, precision in blocks])
