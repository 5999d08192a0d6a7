"""A small world: a pretrained toy backbone and micro-batches of its domain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.backbone.pretrain import pretrain
from model.backbone.schema import InputSchema
from model.config import BackboneConfig, FieldSpec, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from model.kernel.batch import MicroBatch
from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor
from model.kernel.features import FeatureMap
from model.kernel.learner import prior_precision
from model.kernel.start import KernelStart

torch.set_num_threads(1)  # bit-for-bit replay is promised for one thread

SIZES = (2, 4, 3)
TEXT = 12
LIVE, RESIDUALS = 7, 4
"""Live features, and how many of them are T."""
VALUES = 6
"""Item values: two in each of three fields."""
SMALL = BackboneConfig(
    width=16, id_width=8, sparse_width=4, text_width=TEXT, content_width=4, domain_width=4,
    experts=2, expert_hidden=16, expert_width=8, tower_hidden=8,
)  # fmt: skip
FIELDS = (FieldSpec(name="age", kind="number", buckets=4), FieldSpec(name="job"))
GENRES = (FieldSpec(name="genres", kind="multi", max_values=3),)


SCHEMA = InputSchema(
    {"scene": ("home",), "region": ("north", "south", "west"), "period": ("day", "night")}, FIELDS, GENRES, "letters"
)
"""What a backbone of the world reads; its facets have `SIZES` values, `unknown` included."""


class World:
    """Profiles, encoder and examples of a made-up shop whose clicks depend on job and genre."""

    def __init__(self, seed: int = 0, users: int = 30, items: int = 40, examples: int = 600) -> None:
        rng = np.random.default_rng(seed)
        jobs, genres = ["cook", "smith", "nurse"], ["drama", "crime", "war", "love"]
        self.users = [
            UserFeatures(f"u{i}", {"age": float(rng.integers(18, 70)), "job": jobs[i % 3]}) for i in range(users)
        ]
        self.items = [
            ItemFeatures(
                f"i{i}",
                {"genres": [genres[i % 4], genres[(i // 4) % 4]]},
                (rng.normal(size=TEXT) / 3).astype(np.float32),
            )
            for i in range(items)
        ]
        self.encoder = FeatureEncoder.fit(
            self.users, self.items, user_fields=FIELDS, item_fields=GENRES, text_width=TEXT
        )
        user, item = rng.integers(users, size=examples), rng.integers(items, size=examples)
        logit = np.where((user % 3) == (item % 4), 1.5, -1.0)
        label = (rng.random(examples) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        self.examples = Examples(
            user=user, item=item,
            domain=np.stack([rng.integers(size, size=examples) for size in SIZES], axis=1),
            label=label, time=np.arange(examples, dtype=np.float64),
            conversion=(label * (rng.random(examples) < 0.3)).astype(np.float32),
        )  # fmt: skip


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def make_backbone(world: World) -> Callable[..., FoundationBackbone]:
    """Pretrains a toy backbone for two passes; keys change its configuration. Each is made once."""
    made: dict[str, FoundationBackbone] = {}

    def make(**changes: object) -> FoundationBackbone:
        config = SMALL.model_copy(update=changes)
        name = config.model_dump_json()
        if name not in made:
            made[name], _ = pretrain(
                world.examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=config,
                config=PretrainConfig(epochs=2, batch_size=64),
            )  # fmt: skip
        return made[name]

    return make


@pytest.fixture(scope="session")
def backbone(make_backbone: Callable[..., FoundationBackbone]) -> FoundationBackbone:
    return make_backbone()


def kernel_start(width: int = SMALL.width, seed: int = 0, rank: int = 3) -> KernelStart:
    """The start of an untrained kernel, for representations that separate four groups."""
    rng = np.random.default_rng(seed)
    group = np.arange(400) % 4
    x = (rng.normal(size=(400, width)) + 2 * rng.normal(size=(4, width))[group]).astype(np.float32)
    hot = np.concatenate([np.eye(2)[rng.integers(2, size=50)] for _ in range(VALUES // 2)], axis=1)
    features = FeatureMap(
        Compression.fit(x, group, beta=2.0, rank=rank),
        Descriptor.fit(hot, rng.normal(size=400).astype(np.float32)),
        RESIDUALS,
        LIVE - RESIDUALS,
    )
    mean = features.identity()
    names = tuple(f"live_{number}" for number in range(LIVE))
    precision = torch.diag(prior_precision(features))
    return KernelStart(
        features.compression, features.descriptor, names, RESIDUALS, mean, mean[: features.direct], precision, 0
    )


def random_inputs(n: int, width: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Representation, live features, item values and domains of `n` examples."""
    generator = torch.Generator().manual_seed(seed)
    live = torch.randn(n, LIVE, generator=generator)
    x = torch.randn(n, width, generator=generator).half().float()
    domain = torch.stack([torch.randint(size, (n,), generator=generator) for size in SIZES], dim=1)
    pick = torch.randint(-1, 2, (n, VALUES // 2), generator=generator)
    values = torch.where(pick < 0, -1, pick + 2 * torch.arange(VALUES // 2)).to(torch.int16)
    return {"x": x, "live": live, "values": values, "domain": domain}


def labelled(inputs: dict[str, torch.Tensor], frozen: torch.Tensor) -> MicroBatch:
    """Examples whose label depends on the first live feature."""
    live, n = inputs["live"], len(frozen)
    return MicroBatch(
        **inputs,
        label=(live[:, 0] > 0).float(),
        frozen_logit=frozen,
        live_logit=frozen,
        weight=torch.ones(n),
        time=torch.arange(n, dtype=torch.float64),
    )


def micro_batch(backbone: FrozenBackbone, n: int = 32, seed: int = 0) -> MicroBatch:
    """Random labelled examples whose label depends on the first live feature; served by `backbone`."""
    inputs = random_inputs(n, backbone.width, seed)
    with torch.no_grad():
        frozen = backbone.predict(inputs["x"], inputs["domain"])[:, 0]
    return labelled(inputs, frozen)
