"""Pretraining of the foundation backbone."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, logsigmoid

from model.backbone import BackboneShape, FoundationBackbone
from model.config import BackboneConfig, PretrainConfig
from model.content import fit_content
from model.dataset import Examples, ProfileTable, histories
from model.features import FeatureEncoder, ItemFeatures, UserFeatures
from model.metrics import auc, log_loss, sigmoid


@dataclass(frozen=True)
class Progress:
    """Where pretraining stands; handed to the callback after each step."""

    step: int
    steps: int
    """Upper bound: early stopping may end before it."""
    epoch: int
    validation_auc: float
    """Of the last finished pass; not-a-number before the first."""


@dataclass
class PretrainReport:
    """What pretraining did."""

    epochs: int = 0
    best_epoch: int = 0
    train_examples: int = 0
    validation_examples: int = 0
    validation_auc: float = float("nan")
    validation_log_loss: float = float("inf")
    validation_auc_by_domain: dict[str, float] = field(default_factory=dict)
    """AUC per facet value, `"<facet>=<index>"`."""
    window: tuple[float, float] = (float("nan"), float("nan"))
    """First and last event time of the examples."""
    dense_parameters: int = 0
    content: dict[str, Any] = field(default_factory=dict)
    """How the content vectors were fitted."""
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the card."""
        return asdict(self)


@dataclass(frozen=True)
class _Tensors:
    user: Tensor
    item: Tensor
    domain: Tensor
    label: Tensor
    conversion: Tensor
    history: Tensor | None

    @staticmethod
    def of(examples: Examples, profiles: ProfileTable) -> _Tensors:
        past = None
        if profiles.history_length:
            past = torch.from_numpy(histories(examples, profiles.item.numpy(), profiles.history_length))
        conversion = examples.conversion if examples.conversion is not None else np.zeros_like(examples.label)
        return _Tensors(
            torch.from_numpy(examples.user), torch.from_numpy(examples.item), torch.from_numpy(examples.domain),
            torch.from_numpy(examples.label), torch.from_numpy(conversion), past,
        )  # fmt: skip


def pretrain(
    examples: Examples,
    users: Sequence[UserFeatures],
    items: Sequence[ItemFeatures],
    encoder: FeatureEncoder,
    *,
    domain_sizes: tuple[int, int, int],
    backbone: BackboneConfig,
    config: PretrainConfig,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[FoundationBackbone, PretrainReport]:
    """Trains on all but the last `validation_share` of the examples, stops early on it, and freezes the best pass.

    Raises ValueError if a part of the split would be empty.
    """
    begun = clock.perf_counter()
    torch.manual_seed(config.seed)
    model = FoundationBackbone(backbone, BackboneShape.of(encoder, domain_sizes), encoder.digest)
    profiles = ProfileTable(encoder, users, items)
    data = _Tensors.of(examples, profiles)
    cut = round(len(examples) * (1 - config.validation_share))
    if not 0 < cut < len(examples):
        raise ValueError(f"{len(examples)} examples cannot be split into training and validation")
    report = PretrainReport(
        train_examples=cut,
        validation_examples=len(examples) - cut,
        window=(float(examples.time[0]), float(examples.time[-1])),
        dense_parameters=model.dense_parameters(),
    )
    _Trainer(model, profiles, data, config, report, cut).run(progress)
    report.content = asdict(fit_content(model, profiles, examples, seed=config.seed, steps=config.content_steps))
    report.seconds = clock.perf_counter() - begun
    return model.freeze(), report


class _Trainer:
    def __init__(  # noqa: PLR0917
        self, model: FoundationBackbone, profiles: ProfileTable, data: _Tensors,
        config: PretrainConfig, report: PretrainReport, cut: int,
    ) -> None:  # fmt: skip
        self.model, self.profiles, self.data = model, profiles, data
        self.config, self.report, self.cut = config, report, cut
        self.generator = torch.Generator().manual_seed(config.seed)
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.steps_per_epoch = math.ceil(cut / config.batch_size)
        self.steps = self.steps_per_epoch * config.epochs
        self.step = 0

    def run(self, progress: Callable[[Progress], None] | None) -> None:
        best = {name: value.clone() for name, value in self.model.state_dict().items()}
        waited = 0
        for epoch in range(1, self.config.epochs + 1):
            self._epoch(epoch, progress)
            loss, area = self._validate()
            self.report.epochs = epoch
            self.report.history.append({"epoch": epoch, "log_loss": loss, "auc": area})
            if loss < self.report.validation_log_loss:
                self.report.best_epoch, self.report.validation_log_loss, self.report.validation_auc = epoch, loss, area
                best = {name: value.clone() for name, value in self.model.state_dict().items()}
                waited = 0
            else:
                waited += 1
                if waited >= self.config.patience:
                    break
        self.model.load_state_dict(best)
        self._by_domain()

    def _epoch(self, epoch: int, progress: Callable[[Progress], None] | None) -> None:
        self.model.train()
        order = torch.randperm(self.cut, generator=self.generator)
        for index in torch.split(order, self.config.batch_size):
            self._set_rate()
            loss = self._loss(index)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.step += 1
            if progress is not None:
                progress(Progress(self.step, self.steps, epoch, self.report.validation_auc))

    def _set_rate(self) -> None:
        """Linear warm-up over the first half pass, then a cosine down to a tenth."""
        warm = max(1, self.steps_per_epoch // 2)
        share = min(1.0, (self.step + 1) / warm)
        decay = 0.55 + 0.45 * math.cos(math.pi * min(1.0, self.step / self.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * share * decay

    def _loss(self, index: Tensor) -> Tensor:
        data = self.data
        batch = self.profiles.batch(
            data.user[index],
            data.item[index],
            data.domain[index],
            None if data.history is None else data.history[index],
        )
        batch = self.model.drop_ids(batch, self.generator)
        logits = self.model.predict(self.model.represent(batch), batch.domain)
        loss = binary_cross_entropy_with_logits(logits[:, 0], data.label[index])
        if self.model.has_conversion:
            both = logsigmoid(logits[:, 0]) + logsigmoid(logits[:, 1])
            both = both.exp().clamp(1e-7, 1 - 1e-7)
            loss = loss + binary_cross_entropy(both, data.conversion[index])
        return loss

    @torch.no_grad()
    def _scores(self, begin: int, end: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        self.model.eval()
        out = []
        for index in torch.split(torch.arange(begin, end), 4096):
            history = None if self.data.history is None else self.data.history[index]
            batch = self.profiles.batch(self.data.user[index], self.data.item[index], self.data.domain[index], history)
            out.append(self.model.predict(self.model.represent(batch), batch.domain)[:, 0])
        return torch.cat(out).numpy()

    def _validate(self) -> tuple[float, float]:
        labels = self.data.label[self.cut :].numpy()
        scores = self._scores(self.cut, len(self.data.label))
        return log_loss(labels, sigmoid(scores)), auc(labels, scores)

    def _by_domain(self) -> None:
        labels = self.data.label[self.cut :].numpy()
        scores = self._scores(self.cut, len(self.data.label))
        domain = self.data.domain[self.cut :].numpy()
        for facet, name in enumerate(("scene", "region", "period")):
            for value in np.unique(domain[:, facet]):
                picked = domain[:, facet] == value
                self.report.validation_auc_by_domain[f"{name}={value}"] = auc(labels[picked], scores[picked])
