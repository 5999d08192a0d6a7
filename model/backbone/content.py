"""Content vectors: a few numbers per item, from which the live features of users and domains are computed.

Through these vectors live features turn a user's recent residuals into a guess for the next item. They are therefore
fitted for that task on the pretraining half (our choice): from some of a user's residuals, guess the labels that
followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from model.backbone.dataset import ProfileTable
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.optimisers import AdamW
from model.backbone.statistics import FittedStatistics

RIDGE_PRIOR = 4.0
"""Prior precision of the ridge regression from residuals to taste, in units of the noise's precision."""
_CONTEXT, _TARGETS, _USERS = 40, 20, 96  # events of the past, events to guess, users per step
_FEWEST_USERS = 40
_HELD_OUT = 0.15
_CHECK_EVERY = 50
_WORSE = 2e-3  # nats; a validation loss this far above the best means overfitting, so fitting stops
_AVERAGE = 0.98  # decay of the running mean over the steps, which is what is kept
_Drawn = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class ContentReport:
    """How the content vectors were fitted, and how well they predict."""

    method: Literal["components", "taste"]
    users: int = 0
    """Users with enough events to fit on."""
    log_loss_without: float = float("nan")
    """Log loss on held-out users, predicted from the mean residual alone."""
    log_loss: float = float("nan")
    """Log loss on held-out users, predicted with the content vectors."""


@torch.no_grad()
def catalogue_aspects(model: FoundationBackbone, profiles: ProfileTable) -> Tensor:
    """Aspects of all items side by side, `(items, a * d)`."""
    parts = []
    for index in torch.split(torch.arange(len(profiles.item)), 8192):
        domain = torch.zeros(len(index), 3, dtype=torch.int64)
        parts.append(model.item_aspects(profiles.batch(torch.zeros_like(index), index, domain)).flatten(1))
    return torch.cat(parts)


@torch.no_grad()
def fit_components(model: FoundationBackbone, aspects: Tensor) -> ContentReport:
    """Principal components of the catalogue's aspects, scaled so that the mean squared length is 1."""
    basis = _components(aspects, model.content_width)
    _set(model, aspects.mean(0), basis, torch.zeros(model.content_width), aspects)
    return ContentReport("components")


def _components(aspects: Tensor, width: int) -> Tensor:
    """The first `width` principal directions as columns; zeros where there are not so many."""
    _, _, directions = torch.linalg.svd(aspects - aspects.mean(0), full_matrices=False)
    leading = directions[:width].T
    basis = torch.zeros(aspects.shape[1], width)
    basis[:, : leading.shape[1]] = leading
    return basis


def fit_content(
    model: FoundationBackbone,
    profiles: ProfileTable,
    examples: Examples,
    *,
    seed: int,
    steps: int,
    statistics: FittedStatistics | None = None,
) -> ContentReport:
    """Fits `content_map` and its mean; falls back to principal components if `steps` is 0 or fewer than 40 users fit.

    An item that pretraining has not seen gets its vector from its text and sparse fields. `statistics` must be those
    of `examples`, out of fold: with the model's own, a residual would come from a logit that has seen the label.
    """
    model.eval()
    aspects = catalogue_aspects(model, profiles)
    events = _Events.of(examples, _newcomer_logits(model, profiles, examples, statistics))
    if steps == 0 or len(events.count) < _FEWEST_USERS:
        return fit_components(model, aspects)
    return _TasteFit(model, aspects, events, seed).run(steps)


def _set(model: FoundationBackbone, mean: Tensor, basis: Tensor, shift: Tensor, aspects: Tensor) -> None:
    length = ((aspects - mean) @ basis + shift).square().sum(1).mean().sqrt().clamp(min=1e-6)
    model.content_mean.copy_(mean)
    model.content_map.copy_(basis / length)
    model.content_shift.copy_(shift / length)


@torch.no_grad()
def _newcomer_logits(
    model: FoundationBackbone, profiles: ProfileTable, examples: Examples, statistics: FittedStatistics | None
) -> Tensor:
    """Logits that treat every user as unknown, because unknown users' tastes are the ones that must be learned live."""
    out = []
    for index in torch.split(torch.arange(len(examples)), 8192):
        rows = index.numpy()
        batch = profiles.batch(
            torch.from_numpy(examples.user[rows]),
            torch.from_numpy(examples.item[rows]),
            torch.from_numpy(examples.domain[rows]),
            query=None if examples.query is None else torch.from_numpy(examples.query[rows]),
        )
        batch = model.as_newcomer(batch)
        seen = None if statistics is None else statistics.of(batch, index)
        out.append(model.predict(model.represent(batch, seen), batch.domain)[:, 0])
    return torch.cat(out)


@dataclass(frozen=True)
class _Events:
    """Examples sorted by user, then time; users with fewer than `fewest` events are left out."""

    begin: Tensor
    count: Tensor
    item: Tensor
    label: Tensor
    logit: Tensor

    @staticmethod
    def of(examples: Examples, logit: Tensor, fewest: int = 6) -> _Events:
        user = torch.from_numpy(examples.user)
        order = torch.argsort(user, stable=True)
        _, count = torch.unique_consecutive(user[order], return_counts=True)
        begin = torch.cumsum(count, 0) - count
        kept = count >= fewest
        item, label = torch.from_numpy(examples.item), torch.from_numpy(examples.label)
        return _Events(begin[kept], count[kept], item[order], label[order], logit[order])

    def draw(self, users: Tensor, generator: torch.Generator) -> _Drawn:
        """Cuts each user's events at a random place. Returns the positions of the events before and after the cut,
        `(u, m)` each, each with a mask of those that exist."""
        count, begin = self.count[users], self.begin[users]
        cut = 3 + (torch.rand(len(users), generator=generator) * (count - 4)).long()
        past = cut[:, None] - 1 - torch.arange(_CONTEXT)
        future = cut[:, None] + torch.arange(_TARGETS)
        here, there = past >= 0, future < count[:, None]
        return begin[:, None] + past * here, here, begin[:, None] + future * there, there


class _TasteFit:
    def __init__(self, model: FoundationBackbone, aspects: Tensor, events: _Events, seed: int) -> None:
        self.model, self.aspects, self.events = model, aspects, events
        self.generator = torch.Generator().manual_seed(seed)
        self.mean = aspects.mean(0)
        self.scale = aspects.std(0).mean().clamp(min=1e-6)
        # Principal components are the better start: random directions end 0.001 nats worse on users held out.
        self.basis = nn.Parameter(0.3 * _components(aspects, model.content_width))
        self.shift = nn.Parameter(torch.zeros(model.content_width))
        self.average = (self.basis.detach().clone(), self.shift.detach().clone())
        self.use = nn.Parameter(torch.tensor([2.0, 2.0]))
        self.optimiser = AdamW(
            [
                {"params": [self.basis], "weight_decay": 3.0},
                {"params": [self.shift, self.use], "weight_decay": 0.0},
            ],
            lr=1e-3,
        )

    def run(self, steps: int) -> ContentReport:
        users = torch.randperm(len(self.events.count), generator=self.generator)
        held = users[: max(4, round(_HELD_OUT * len(users)))]
        train_users = users[len(held) :]
        tests = [self.events.draw(held, self.generator) for _ in range(16)]
        best, kept = float("inf"), self.average
        for step in range(1, steps + 1):
            picked = train_users[torch.randint(len(train_users), (_USERS,), generator=self.generator)]
            loss = self._loss(self.events.draw(picked, self.generator))
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            for mean, value in zip(self.average, (self.basis, self.shift), strict=True):
                mean.lerp_(value.detach(), 1 - _AVERAGE)
            if step % _CHECK_EVERY == 0 or step == steps:
                held_out = self._test(tests)
                if held_out >= best + _WORSE:
                    break
                if held_out < best:
                    best, kept = held_out, (self.average[0].clone(), self.average[1].clone())
        without = self._test(tests, content=False)
        with torch.no_grad():
            _set(self.model, self.mean, kept[0] / self.scale, kept[1], self.aspects)
        return ContentReport("taste", len(users), without, best)

    @torch.no_grad()
    def _test(self, tests: Sequence[_Drawn], *, content: bool = True) -> float:
        """Log loss on users held out, with the averaged vectors."""
        return sum(float(self._loss(test, self.average, content=content)) for test in tests) / len(tests)

    def _vectors(self, positions: Tensor, map_: tuple[Tensor, Tensor]) -> Tensor:
        z = (self.aspects[self.events.item[positions]] - self.mean) / self.scale
        return normalize(z @ map_[0] + map_[1], dim=-1)

    def _loss(self, drawn: _Drawn, map_: tuple[Tensor, Tensor] | None = None, *, content: bool = True) -> Tensor:
        """Log loss of what followed, guessed by a ridge regression of the residuals before it on content."""
        past, here, future, there = drawn
        events = self.events
        residual = (events.label[past] - torch.sigmoid(events.logit[past])) * here
        level = residual.sum(1) / (here.sum(1) + RIDGE_PRIOR)
        guess = events.logit[future] + self.use[0] * level[:, None]
        if content:
            map_ = map_ or (self.basis, self.shift)
            seen = self._vectors(past, map_) * here[..., None]
            moment = seen.transpose(1, 2) @ seen + RIDGE_PRIOR * torch.eye(seen.shape[2])
            taste = torch.linalg.solve(moment, (seen * residual[..., None]).sum(1))
            guess = guess + self.use[1] * (self._vectors(future, map_) @ taste[..., None])[..., 0]
        loss = binary_cross_entropy_with_logits(guess, events.label[future], there.float(), reduction="sum")
        return loss / there.sum()
