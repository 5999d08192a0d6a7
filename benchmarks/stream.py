"""The demo's stream in process: the same requests, play times and delays, without broker and HTTP.

What the ablations and the kernel's cost are measured on. A request sees live features and a kernel that are as old as
they are behind the real path: the join's window and lateness, then the commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from features.config import LiveConfig
from features.live.features import LiveFeatures, LiveLayout, RequestOutcome
from features.text import TextEncoder
from lab.streams.logged import movielens
from lab.streams.logged.movielens import MovieLens, Rating
from local.replay.pacing import Pace, plan
from model.backbone.dataset import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone, round_representation
from model.backbone.pretrain import PretrainReport, pretrain
from model.config import BackboneConfig, KernelConfig, LearnerConfig, PretrainConfig
from model.encoding.domain import Domain
from model.encoding.features import FeatureEncoder, ItemFeatures, UserFeatures
from model.evaluation import auc, calibration, log_loss, sigmoid
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner
from streaming.config import Config

JOIN_S = 0.5
"""Join window and lateness of the demo."""
PUBLISH_S = 0.5
"""From a label to a kernel and live features that a scorer has, on top of the join."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class World:
    """MovieLens 100K with text vectors, and the encoder of its first half."""

    config: Config
    data: MovieLens
    users: list[UserFeatures]
    items: list[ItemFeatures]

    @staticmethod
    def load() -> World:
        """From the user's cache; what is missing is fetched."""
        config = Config(domains={"scene": (movielens.SCENE,), "region": movielens.REGIONS, "period": movielens.PERIODS})
        data = movielens.load(movielens.fetch(config.cache_dir))
        vectors = TextEncoder(config.features.text_model, config.cache_dir).encode([item.text for item in data.items])
        items = [ItemFeatures(item.item_id, item.fields, vectors[place]) for place, item in enumerate(data.items)]
        return World(config, data, [UserFeatures(user.user_id, user.fields) for user in data.users], items)

    @cached_property
    def encoder(self) -> FeatureEncoder:
        """Knows the users and items of the pretraining half only."""
        ratings = self.data.half("pretrain")
        users, items = {r.user_id for r in ratings}, {r.item_id for r in ratings}
        features = self.config.features
        return FeatureEncoder.fit(
            [user for user in self.users if user.user_id in users],
            [item for item in self.items if item.item_id in items],
            user_fields=features.user_fields,
            item_fields=features.item_fields,
            text_width=self.config.backbone.text_width,
        )

    @cached_property
    def examples(self) -> Examples:
        """The pretraining half."""
        return self.examples_of(self.data.half("pretrain"))

    def examples_of(self, ratings: Sequence[Rating]) -> Examples:
        """Any ratings, in order of time."""
        user = {profile.user_id: place for place, profile in enumerate(self.users)}
        item = {profile.item_id: place for place, profile in enumerate(self.items)}
        domains = [
            Domain(movielens.SCENE, self.data.regions.get(r.user_id, "other"), movielens.period_of(r.time))
            for r in ratings
        ]
        return Examples(
            user=np.array([user[r.user_id] for r in ratings], dtype=np.int64),
            item=np.array([item[r.item_id] for r in ratings], dtype=np.int64),
            domain=self.config.domain_space().encode_many(domains),
            label=np.array([r.click for r in ratings], dtype=np.float32),
            time=np.array([r.time for r in ratings], dtype=np.float64),
        )

    def pretrained(
        self, backbone: BackboneConfig | None = None, config: PretrainConfig | None = None
    ) -> tuple[FoundationBackbone, PretrainReport]:
        """A backbone of the first half."""
        return pretrain(
            self.examples,
            self.users,
            self.items,
            self.encoder,
            domain_sizes=self.config.domain_space().sizes,
            backbone=backbone or self.config.backbone,
            config=config or self.config.pretrain,
        )


def served(
    world: World, backbone: FrozenBackbone, live: LiveConfig | None = None, delay_s: float = JOIN_S + PUBLISH_S
) -> MicroBatch:
    """The second half as it would be logged: one example per item shown, in order of play; `time` is seconds of play.

    Live features are those of outcomes at least `delay_s` old.
    """
    space, encoder = world.config.domain_space(), world.encoder
    requests = world.data.requests("live")
    features = LiveFeatures(LiveLayout.of(live or LiveConfig(), backbone.content_width), live or LiveConfig())
    users = {user.user_id: encoder.encode_user(user) for user in world.users}
    items = {item.item_id: encoder.encode_item(item) for item in world.items}
    waiting: deque[RequestOutcome] = deque()
    parts: list[MicroBatch] = []
    for slot in plan([request.user_id for request in requests], Pace()):
        request = requests[slot.index]
        ready = []
        while waiting and waiting[0].time <= slot.at - delay_s:
            ready.append(waiting.popleft())
        features.update(ready)
        n, domain = len(request.items), space.encode(request.domain)
        batch = encoder.batch(users[request.user_id], [items[item] for item in request.items], domain)
        with torch.inference_mode():
            x = round_representation(backbone.represent(batch))
            rows = torch.tensor([domain]).expand(n, -1)
            frozen = backbone.predict(x, rows)[:, 0]
            content = backbone.content(batch).numpy()
        t = features.features(slot.at, request.user_id, request.domain, request.items, content)
        label = np.array(request.clicks, dtype=np.float32)
        residual = (label - sigmoid(frozen.numpy())).astype(np.float32)
        waiting.append(RequestOutcome(request.user_id, request.domain, request.items, content, residual, slot.at))
        parts.append(
            MicroBatch(
                x=x.clone(),
                live=torch.from_numpy(t),
                domain=rows.clone(),
                label=torch.from_numpy(label),
                conversion=torch.zeros(n),
                frozen_logit=frozen.clone(),
                live_logit=frozen.clone(),
                weight=torch.ones(n),
                time=torch.full((n,), slot.at, dtype=torch.float64),
            )
        )
    return replace(MicroBatch.concat(parts), origin=())


@dataclass(frozen=True)
class Arms:
    """Logits per arm over the stream, each scored before the learner saw the label."""

    label: Floats
    frozen: Floats
    candidate: Floats
    """The candidate just before it learns: no path delay."""
    live: Floats
    """A kernel that is as old as behind the real path."""

    def summary(self) -> dict[str, float]:
        """AUC, log loss and calibration of the arms, and the live arm's gain."""
        out: dict[str, float] = {}
        for name in ("frozen", "candidate", "live"):
            p = sigmoid(getattr(self, name))
            out[f"auc_{name}"] = auc(self.label, p)
            out[f"log_loss_{name}"] = log_loss(self.label, p)
            out[f"calibration_{name}"] = calibration(self.label, p)
        out["gain"] = out["auc_live"] - out["auc_frozen"]
        return out


def play(
    stream: MicroBatch,
    backbone: FrozenBackbone,
    kernel: KernelConfig,
    learner_config: LearnerConfig,
    domain_sizes: tuple[int, int, int],
) -> tuple[Arms, Learner]:
    """Test-then-train over the stream in micro-batches; the live arm answers with a kernel that is a path delay old."""
    size = learner_config.batch_examples
    learner = Learner(backbone, kernel, learner_config, live_width=stream.live.shape[1], domain_sizes=domain_sizes)
    batches = [stream.select(index) for index in torch.split(torch.arange(len(stream)), size)]
    live: list[torch.Tensor] = []
    candidate: list[torch.Tensor] = []
    for batch in batches:
        # What is played before this batch has been learned and published meets the kernel as it is now.
        until = float(batch.time[-1]) + JOIN_S + PUBLISH_S
        while len(live) < len(batches) and float(batches[len(live)].time[0]) < until:
            live.append(learner.score(batches[len(live)]))
        candidate.append(learner.learn(batch).candidate_logit)
    arms = Arms(
        stream.label.numpy(),
        stream.frozen_logit.numpy(),
        torch.cat(candidate).numpy(),
        torch.cat(live).numpy(),
    )
    return arms, learner
