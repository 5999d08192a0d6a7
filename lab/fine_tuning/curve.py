"""Learning curves of the methods to add a new scene, over its first examples, test then train.

A fine-tuning is repeated after 100, 500 and 1 000 examples on all earlier ones, and scores the following; before the
first one the old backbone serves. The kernel learns as in production. All methods start from the same old backbone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lab.adapters import ADAPTERS, AdapterContext
from lab.evaluate.known_labels import live_histories
from lab.evaluate.label_times import decided_labels
from lab.evaluate.plan import Plan
from lab.evaluate.prepare import prepare
from lab.evaluate.prequential import run
from lab.evaluate.pretrained import Pretrained, Texts, pretrain_on
from lab.fine_tuning.scratch import from_scratch
from lab.streams.logged.logs import LoggedStream
from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.grown import grow
from model.backbone.levels import LEVELS, Level
from model.backbone.methods.method import MethodName
from model.backbone.trainer import logits_of
from model.backbone.transfer import fine_tune
from model.config import BackboneConfig
from model.encoding.features import FeatureEncoder
from model.encoding.history import PastEvents
from model.encoding.profile import ItemFeatures, UserFeatures
from model.evaluation import grouped_auc, log_loss, sigmoid

FIRST = (100, 500, 2_000)
"""Numbers of first examples over which the curve is reported."""
RETRAINED = (100, 500, 1_000)
"""Numbers of the scene's examples after which a fine-tuning is repeated."""
FREEZE: dict[str, tuple[Level, ...]] = {
    "tables grown, nothing trained": LEVELS,
    "fine-tune, none frozen": (),
    "fine-tune, L0 frozen": ("L0",),
    "fine-tune, L0 and L1 frozen": ("L0", "L1"),
    "fine-tune, L0 to L2 frozen": ("L0", "L1", "L2"),
}
SCENE_METHODS: tuple[MethodName, ...] = ("lora", "houlsby", "conure")
"""Ways in which the scene gets parameters of its own, and all levels are open to them."""
SEQUENCE_METHODS: tuple[MethodName, ...] = ("peterrec", "peterrec-parallel")
"""Methods that change the inside of a sequence encoder, if the backbone has one."""


@dataclass(frozen=True)
class CurveRow:
    """Results of one method on one stream and seed."""

    stream: str
    seed: int
    method: str
    request_auc: tuple[float, ...]
    """AUC within requests over the first `FIRST` examples."""
    log_loss: tuple[float, ...]
    cpu_s: float
    """Processor seconds of all its learning."""
    trained: int
    """Numbers that learning changes."""


@dataclass(frozen=True)
class _NewScene:
    """A stream with a held-out scene, prepared for every adaptation method."""

    plan: Plan
    stream: LoggedStream
    seed: int
    pretrained: Pretrained
    users: list[UserFeatures]
    items: list[ItemFeatures]
    examples: Examples
    """Examples of the scene, whose index is after the last declared one."""
    request: NDArray[np.int64]
    past: PastEvents | None
    """Earlier events of each request's user, if the backbone reads them."""

    @property
    def old(self) -> FoundationBackbone:
        """The old backbone, from which all methods start."""
        assert isinstance(self.pretrained.backbone, FoundationBackbone)
        return self.pretrained.backbone

    def logits(
        self, backbone: FoundationBackbone, encoder: FeatureEncoder, begin: int, end: int
    ) -> NDArray[np.float32]:
        """Click logits of the scene's examples from `begin` to before `end`, `(n,)`, with histories as they were."""
        data = TrainingData.of(self.examples, ProfileTable(encoder, self.users, self.items))
        return logits_of(backbone, replace(data, past=self.past).part(begin, end))[:, 0]

    def row(self, method: str, logit: NDArray[np.float32], cpu_s: float, trained: int) -> CurveRow:
        """The figures of one method, whose logits are `(n,)`."""
        label, request = self.examples.label, self.request
        return CurveRow(
            self.stream.name, self.seed, method,
            tuple(grouped_auc(label[:n], logit[:n], request[:n]) for n in FIRST),
            tuple(log_loss(label[:n], sigmoid(logit[:n])) for n in FIRST),
            cpu_s, trained,
        )  # fmt: skip


def curve(plan: Plan, stream: LoggedStream, seed: int, texts: Texts) -> Iterator[CurveRow]:
    """A row per method: frozen, kernel, fine-tunings by what is frozen, and a model of the scene's examples alone."""
    pretrained = pretrain_on(stream, plan.config, plan.kernel, texts, seed)
    catalogue, chunk = stream.catalogue, stream.log.rows(slice(stream.split, None))
    vectors = texts([item.text for item in catalogue.items])
    row, column = np.nonzero(chunk.shown)
    domain = chunk.domain[row].copy()
    domain[:, 0] = catalogue.space.sizes[0]
    label = chunk.clean_click[row, column].astype(np.float32)
    examples = Examples(chunk.user[row], chunk.items[row, column], domain, label, chunk.time[row])
    scene = _NewScene(
        plan, stream, seed, pretrained,
        [UserFeatures(user.user_id, user.fields) for user in catalogue.users],
        [ItemFeatures(i.item_id, i.fields, vector) for i, vector in zip(catalogue.items, vectors, strict=True)],
        examples, row, live_histories(stream, pretrained, decided_labels(chunk, plan.config)),
    )  # fmt: skip
    yield from _as_it_is(scene)
    for method, frozen in FREEZE.items():
        yield _retrained(scene, method, partial(_tuned, scene, frozen))
    for method in methods_for(scene.old.config):
        yield _retrained(scene, method, partial(_tuned, scene, (), method=method))
    yield _retrained(scene, "from scratch", partial(_from_scratch, scene))


def methods_for(backbone: BackboneConfig) -> tuple[MethodName, ...]:
    """The methods that a backbone can take; two towers take none."""
    if backbone.trunk == "dssm":
        return ()
    return SCENE_METHODS if backbone.user_encoder in ("none", "pool") else (*SCENE_METHODS, *SEQUENCE_METHODS)


def _as_it_is(scene: _NewScene) -> Iterator[CurveRow]:
    """The old backbone, to which the scene is unknown, and the kernel over it."""
    plan, pretrained = scene.plan, scene.pretrained
    data = prepare(scene.stream, pretrained, plan.config)
    context = AdapterContext(
        backbone=pretrained.backbone, profiles=pretrained.profiles, history=pretrained.log.examples,
        start=pretrained.start, domain_sizes=scene.stream.catalogue.space.sizes, learner=plan.learner,
        training=plan.config.training, seed=scene.seed,
    )  # fmt: skip
    for method, name in (("frozen", "frozen"), ("kernel", "iak")):
        adapter = ADAPTERS[name].build(context, ADAPTERS[name].rate)
        outcome = run(adapter, data, plan.config.training.batch_examples)
        yield scene.row(method, outcome.logit, outcome.cpu_s, adapter.parameters)


_Made = tuple[FoundationBackbone, FeatureEncoder, int]


def _retrained(scene: _NewScene, method: str, make: Callable[[Examples], _Made]) -> CurveRow:
    """The curve of a model that `make` trains again on all examples so far."""
    n = len(scene.examples)
    logit, cpu_s, trained = np.zeros(n, dtype=np.float32), 0.0, 0
    if method != "from scratch":
        grown = grow(scene.old, scene.pretrained.encoder, scene.pretrained.encoder).model.freeze()
        logit[:] = scene.logits(grown, scene.pretrained.encoder, 0, n)
    for begin, end in pairwise([*(at for at in RETRAINED if at < n), n]):
        begun = time.process_time()
        backbone, encoder, trained = make(scene.examples.select(slice(0, begin)))
        cpu_s += time.process_time() - begun
        logit[begin:end] = scene.logits(backbone, encoder, begin, end)
    return scene.row(method, logit, cpu_s, trained)


def _tuned(scene: _NewScene, frozen: tuple[Level, ...], part: Examples, method: MethodName | None = None) -> _Made:
    config = scene.plan.config.pretrain.model_copy(update={"seed": scene.plan.config.pretrain.seed + scene.seed})
    rate = float(scene.pretrained.log.examples.label.mean())
    made = fine_tune(
        scene.old, part, scene.users, scene.items, scene.pretrained.encoder,
        frozen=frozen, config=config, click_rate=rate, method=method,
    )  # fmt: skip
    return made.backbone, made.encoder, made.report.trained_parameters


def _from_scratch(scene: _NewScene, part: Examples) -> _Made:
    """A backbone of the scene's examples alone."""
    config = scene.plan.config.pretrain
    old = scene.old, scene.pretrained.encoder
    seeded = config.model_copy(update={"seed": config.seed + scene.seed})
    backbone, encoder, report = from_scratch(part, scene.users, scene.items, old, seeded)
    return backbone, encoder, report.trained_parameters
