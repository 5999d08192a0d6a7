"""The training loop that pretraining and fine-tuning share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backbone.alignment import alignment
from model.backbone.dataset import TrainingData
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.backbone.optimisers import AdamW
from model.backbone.report import PretrainReport, TrainingProgress, auc_by_domain
from model.backbone.statistics import FittedStatistics
from model.backbone.training_state import Unfinished, load_state, save_state
from model.config import PretrainConfig
from model.evaluation import auc, log_loss, sigmoid
from model.losses import entire_space_loss, relevance_loss

SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(2, 11))
"""Shares of the tower's logit that validation chooses from, because trunk and tower are overconfident (docs/decisions/
0068). 0 is not among them: the kernel needs a trunk."""
_VALIDATION_ROWS = 4_096
"""Pairs that are scored in one forward pass."""


class Trainer:
    """Trains the parameters that require a gradient on `data[:cut]` and keeps the pass with the least log loss on the
    rest.

    If `cut` leaves no rest, it makes all passes and keeps the last. `statistics` are those of `data[:cut]`; if None,
    the model uses its own, which must then come from other examples. Validation chooses the tower's share from
    `shares`.
    """

    def __init__(  # noqa: PLR0917
        self,
        model: FoundationBackbone,
        data: TrainingData,
        cut: int,
        config: PretrainConfig,
        run: str = "",
        statistics: FittedStatistics | None = None,
        shares: Sequence[float] = SHARES,
    ) -> None:
        self.model, self.data, self.cut, self.config, self.run = model, data, cut, config, run
        self.statistics, self._shares = statistics, shares
        self.report = PretrainReport(train_examples=cut, validation_examples=len(data) - cut)
        self.report.dense_parameters = model.dense_parameters()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.report.trained_parameters = sum(p.numel() for p in trained)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._trained = trained
        self._steps_per_epoch = math.ceil(cut / config.batch_size)
        self._steps = self._steps_per_epoch * config.epochs
        self._step = self._waited = 0
        self._best = {name: value.clone() for name, value in model.state_dict().items()}

    def train(
        self,
        progress: Callable[[TrainingProgress], None] | None = None,
        resume: Path | None = None,
        like: PretrainReport | None = None,
    ) -> None:
        """Trains until validation stops it; with `like`, for as many passes as were best in that earlier training.

        Starts from the state in the file `resume` if it exists; the file is kept afterwards. With `like`, the tower's
        share is taken from that report too.
        """
        limit = self.config.epochs if like is None else like.best_epoch
        if self._trained:
            self._optimiser = AdamW(
                self._trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
            )
        else:
            limit = 0
        if resume is not None:
            self._resume(resume)
        while self.report.epochs < limit and self._waited < self.config.patience:
            self._epoch(progress)
            if self.cut < len(self.data):
                self._validate()
            if resume is not None:
                kept = {"step": self._step, "waited": self._waited, "report": asdict(self.report)}
                save_state(resume, self.run, self._unfinished(), kept)
        if self.cut < len(self.data):
            self.model.load_state_dict(self._best)
        self.model.towers.shrink((like or self.report).tower_share)
        if self.cut < len(self.data):
            self._final()

    def validate(self) -> None:
        """Validates the untrained model. Called before `train`, this is pass 0, kept unless a later pass is better."""
        if self.cut < len(self.data):
            self._validate()

    @property
    def steps_done(self) -> int:
        """Number of optimiser steps since training began."""
        return self._step

    def _unfinished(self) -> Unfinished:
        return Unfinished(self.model, self._best, self._optimiser, self._generator)

    def _resume(self, path: Path) -> None:
        kept = load_state(path, self.run, self._unfinished())
        if kept is not None:
            self._step, self._waited = int(kept["step"]), int(kept["waited"])
            self.report = PretrainReport(**kept["report"])
            self.report.resumed_epoch = self.report.epochs

    def _epoch(self, progress: Callable[[TrainingProgress], None] | None) -> None:
        self.model.train()
        order = self._order()
        for index in torch.split(order, self.config.batch_size):
            self._set_rate()
            loss = self._loss(index)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            self._step += 1
            if progress is not None:
                at = TrainingProgress(self._step, self._steps, self.report.epochs + 1, self.report.validation_auc)
                progress(at)
        self.report.epochs += 1

    def _order(self) -> Tensor:
        """All examples in a random order. With histories, the examples of one moment stay together, so that their
        history is encoded once."""
        if self.data.past is None:
            return torch.randperm(self.cut, generator=self._generator)
        moment = torch.from_numpy(self.data.past.moment[: self.cut])
        return torch.argsort(torch.randperm(len(self.data.past.item), generator=self._generator)[moment], stable=True)

    def _set_rate(self) -> None:
        """Linear warm-up over the first half pass, then a cosine down to a tenth."""
        warm = max(1, self._steps_per_epoch // 2)
        share = min(1.0, (self._step + 1) / warm)
        decay = 0.55 + 0.45 * math.cos(math.pi * min(1.0, self._step / self._steps))
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.learning_rate * share * decay

    def _loss(self, index: Tensor) -> Tensor:
        """The loss of one batch of examples, `()`: clicks, and what else the backbone has heads or terms for."""
        data, config = self.data, self.model.config
        batch = self.model.drop_ids(data.batch(index), self._generator)
        seen = None if self.statistics is None else self.statistics.of(batch, index)
        x = self.model.represent(batch, seen)
        predict = self.model.predict_all if self.model.has_relevance else self.model.predict
        ctr, cvr, *relevance = predict(x, batch.domain).unbind(1)
        loss = entire_space_loss((ctr, cvr), data.label[index], data.conversion[index], self.model.has_conversion)
        if relevance and data.relevance is not None:
            loss = loss + config.relevance_weight * relevance_loss(relevance[0], data.relevance[index])
        if config.alignment != "none":
            loss = loss + config.alignment_weight * alignment(config.alignment, x, batch.domain)
        return loss

    def logits(self, begin: int, end: int) -> NDArray[np.float32]:
        """Logits of CTR and CVR of the examples from `begin` (included) to `end` (excluded), `(n, 2)`."""
        self.model.eval()
        return logits_of(self.model, self.data.part(begin, end))

    def _validate(self) -> None:
        """Measures the held-out examples and keeps the parameters if they are the best so far."""
        labels, report = self.data.label[self.cut :].numpy(), self.report
        scores = self.logits(self.cut, len(self.data))[:, 0]
        loss, area, share = log_loss(labels, sigmoid(scores)), auc(labels, scores), 1.0
        if self.statistics is not None:
            known = self.statistics.served(self.data.part(self.cut, len(self.data)))
            loss, area, share = _best_share(labels, scores, self.model.first_order_of(known), self._shares)
        report.history.append({"epoch": report.epochs, "log_loss": loss, "auc": area})
        self._waited += 1
        if loss < report.validation_log_loss:
            report.best_epoch, report.validation_log_loss, report.validation_auc = report.epochs, loss, area
            report.tower_share = share
            self._best = {name: value.clone() for name, value in self.model.state_dict().items()}
            self._waited = 0

    def _final(self) -> None:
        labels, logits = self.data.label[self.cut :].numpy(), self.logits(self.cut, len(self.data))
        domain = self.data.domain[self.cut :].numpy()
        self.report.validation_auc_by_domain = auc_by_domain(labels, logits[:, 0], domain)
        self.report.held_out = logits[:, 0].tolist()
        rest = self.data.part(self.cut, len(self.data))
        self.report.validation_auc_ctcvr = auc_ctcvr(self.model, rest, logits)
        self.report.validation_auc_relevance = auc_relevance(self.model, rest)


def _best_share(
    labels: NDArray[np.float32],
    logits: NDArray[np.float32],
    first_order: NDArray[np.float32],
    shares: Sequence[float],
) -> tuple[float, float, float]:
    """Least log loss over the shares of the tower's logit, the AUC at it, and that share."""
    mixed = {share: first_order + share * (logits - first_order) for share in shares}
    loss, share = min((log_loss(labels, sigmoid(logit)), share) for share, logit in mixed.items())
    return loss, auc(labels, mixed[share]), share


def auc_ctcvr(backbone: FrozenBackbone, data: TrainingData, logits: NDArray[np.float32]) -> float:
    """AUC of CTCVR over all pairs of `data`, from logits `(n, 2)`; NaN without a conversion tower."""
    if not backbone.has_conversion:
        return float("nan")
    return auc(data.conversion.numpy(), sigmoid(logits[:, 0]) * sigmoid(logits[:, 1]))


def auc_relevance(model: FoundationBackbone, data: TrainingData) -> float:
    """AUC of relevance over the judged pairs, relevant above one half; NaN without the task or judgements of both."""
    if not model.has_relevance or data.relevance is None:
        return float("nan")
    judged = ~np.isnan(data.relevance.numpy())
    return auc(data.relevance.numpy()[judged], _answers(model, data, model.predict_all)[judged, 2])


def logits_of(backbone: FrozenBackbone, data: TrainingData) -> NDArray[np.float32]:
    """Logits of CTR and CVR of all pairs, `(n, 2)`."""
    return _answers(backbone, data, backbone.predict)


@torch.no_grad()
def _answers(
    backbone: FrozenBackbone, data: TrainingData, predict: Callable[[Tensor, Tensor], Tensor]
) -> NDArray[np.float32]:
    parts = []
    for index in torch.split(torch.arange(len(data)), _VALIDATION_ROWS):
        batch = data.batch(index)
        parts.append(predict(backbone.represent(batch), batch.domain))
    return torch.cat(parts).numpy()
