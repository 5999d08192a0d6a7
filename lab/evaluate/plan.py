"""The plan of an evaluation, and the key under which its results are stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from features.config import LiveConfig
from lab.adapters import ADAPTERS, AdapterSpec
from lab.adapters.base import AdapterUnfitError
from lab.adapters.river_adapter import RIVER
from lab.adapters.training import GradientTraining
from lab.bases.presets import shipped_base
from lab.code_key import code_digest
from lab.evaluate.config import EvaluationConfig
from lab.streams.sources import Source
from model.backbone.custom import factory_digest
from model.config import BackboneConfig, KernelConfig, LearnerConfig, PretrainConfig
from model.near_names import did_you_mean

ALL_ADAPTERS: dict[str, AdapterSpec] = {**ADAPTERS, "river-lr": RIVER}
KERNEL = "iak"
"""Name of the adapter that is the served kernel."""
STANDARD_ADAPTERS = tuple(name for name, spec in ALL_ADAPTERS.items() if not spec.ablation)
ADAPTER_SETS = {
    "all": tuple(ALL_ADAPTERS),
    "ablations": (KERNEL, *(name for name, spec in ALL_ADAPTERS.items() if spec.part)),
}
"""Sets of adapters that one word on the command line names."""
QUICK_ADAPTERS = ("frozen", "iak", "closed-form", "live-head", "lora", "full")
WORK = "lab.evaluate.work"
"""The module whose code, with all that it imports, decides what a run gives; reports only read its results."""

PRETRAIN = shipped_base().pretrain.model_copy(update={"content_steps": 200})


class UnknownAdapterError(ValueError):
    """There is no adapter of that name; the message lists them all."""


@dataclass(frozen=True)
class Plan:
    """Streams, adapters, seeds and everything that is fixed for all of them."""

    sources: tuple[Source, ...]
    adapters: tuple[str, ...]
    seeds: tuple[int, ...]
    cache_dir: Path
    work_dir: Path
    config: EvaluationConfig
    kernel: KernelConfig
    learner: LearnerConfig
    code: str
    """Hash of the code when the plan was made: a file edited during a run does not change the plan."""

    @property
    def key(self) -> str:
        """Hash of the settings and of the code: work of another key is never mixed in."""
        parts = {name: section.model_dump(mode="json") for name, section in _sections(self).items()}
        config = self.config
        parts["fixed"] = {
            "pace": config.requests_per_second,
            "join": config.join_s,
            "horizon": config.horizon_s,
            "training": asdict(config.training),
        }
        return hashlib.sha256((json.dumps(parts, sort_keys=True) + self.code).encode()).hexdigest()[:16]

    def folder(self, source: Source, seed: int) -> Path:
        """Folder of the results of one stream and seed."""
        stream = hashlib.sha256(source.describe().encode()).hexdigest()[:8]
        return self.work_dir / self.key / f"{source.name}-{stream}" / f"seed-{seed}"

    def to_json(self) -> dict[str, object]:
        """As JSON, for the report."""
        return {
            "streams": [source.name for source in self.sources],
            "adapters": {n: {"rate": ALL_ADAPTERS[n].rate, "about": ALL_ADAPTERS[n].about} for n in self.adapters},
            "seeds": list(self.seeds),
            "key": self.key,
            **{name: section.model_dump(mode="json") for name, section in _sections(self).items()},
            "requests_per_second": self.config.requests_per_second,
            "join_s": self.config.join_s,
            "horizon_s": self.config.horizon_s,
            "training": asdict(self.config.training),
        }  # fmt: skip


def _sections(plan: Plan) -> dict[str, BackboneConfig | PretrainConfig | LiveConfig | KernelConfig | LearnerConfig]:
    config = plan.config
    return {
        "backbone": config.backbone, "pretrain": config.pretrain, "live": config.live,
        "kernel": plan.kernel, "learner": plan.learner,
    }  # fmt: skip


def make_plan(
    sources: list[Source],
    adapters: tuple[str, ...] | None,
    seeds: int,
    out: Path,
    cache_dir: Path,
    *,
    quick: bool,
    kernel: KernelConfig | None = None,
    learner: LearnerConfig | None = None,
    live: LiveConfig | None = None,
    backbone: BackboneConfig | None = None,
    pretrain: PretrainConfig | None = None,
) -> Plan:
    """The plan of a command line; a name of `ADAPTER_SETS` stands for its adapters.

    Raises UnknownAdapterError, or with a custom backbone AdapterUnfitError or BackboneRefused.
    """
    learner, backbone = learner or LearnerConfig(), backbone or BackboneConfig()
    chosen = _choose_adapters(adapters or (QUICK_ADAPTERS if quick else STANDARD_ADAPTERS))
    chosen = _fitting(chosen, backbone, asked=bool(adapters))
    pretrain = pretrain or PRETRAIN
    pretrain = pretrain.model_copy(update={"epochs": min(6, pretrain.epochs)} if quick else {})
    config = EvaluationConfig(
        backbone=backbone,
        pretrain=pretrain,
        live=live or LiveConfig(),
        requests_per_second=PACE,
        join_s=JOIN_S,
        horizon_s=HORIZON_S,
        training=GradientTraining(batch_examples=min(learner.batch_examples, GradientTraining.batch_examples)),
    )
    needed = tuple(dict.fromkeys(("frozen", *chosen)))
    return Plan(
        tuple(map(_from_anywhere, sources)),
        needed,
        tuple(range(seeds)),
        cache_dir.absolute(),
        out.absolute() / "work",
        config,
        kernel or KernelConfig(),
        learner,
        code_digest(WORK) + factory_digest(backbone.factory),
    )


def _choose_adapters(names: tuple[str, ...]) -> tuple[str, ...]:
    """The adapters that `names`, and sets among them, stand for. Raises UnknownAdapterError."""
    chosen = tuple(adapter for name in names for adapter in ADAPTER_SETS.get(name, (name,)))
    unknown = [name for name in chosen if name not in ALL_ADAPTERS]
    if unknown:
        known = (*ALL_ADAPTERS, *ADAPTER_SETS)
        near = did_you_mean(unknown[0], known)
        raise UnknownAdapterError(f"no adapter {unknown[0]!r}; there are {', '.join(known)}{near}")
    return chosen


def _fitting(names: tuple[str, ...], backbone: BackboneConfig, *, asked: bool) -> tuple[str, ...]:
    """The adapters that can be had on such a backbone. Raises AdapterUnfitError for one asked for."""
    if backbone.factory:
        names = _fit_any_backbone(names, "a backbone of your own", asked=asked)
    elif backbone.trunk == "dssm":
        names = _fit_any_backbone(names, "backbone.trunk dssm", asked=asked)
    return _without_raw_features(names, backbone, asked=asked)


def _fit_any_backbone(names: tuple[str, ...], backbone: str, *, asked: bool) -> tuple[str, ...]:
    """The adapters that do not change the layers of a trunk. Raises AdapterUnfitError for one asked for."""
    fitting = tuple(name for name in names if ALL_ADAPTERS[name].family not in ("few", "whole"))
    if asked and (unfit := [name for name in names if name not in fitting]):
        others = [name for name, spec in ALL_ADAPTERS.items() if spec.family not in ("few", "whole")]
        raise AdapterUnfitError(
            f"{unfit[0]} changes the layers of the foundation model's trunk, which {backbone} does not have; these fit "
            f"any backbone: {', '.join(others)}"
        )
    return fitting


def _without_raw_features(names: tuple[str, ...], backbone: BackboneConfig, *, asked: bool) -> tuple[str, ...]:
    """The adapters that work on the lab's batches, which have neither histories nor queries.

    Raises AdapterUnfitError as above.
    """
    missing, cure = "histories", "backbone.user_encoder to none"
    if backbone.query_aspects:
        missing, cure = "queries", "backbone.query_aspects to []"
    elif not backbone.history.length:
        return names
    fitting = tuple(name for name in names if ALL_ADAPTERS[name].family != "whole")
    if asked and (unfit := [name for name in names if name not in fitting]):
        raise AdapterUnfitError(
            f"{unfit[0]} trains the whole backbone, {missing} included, which batches of the lab do not carry: set "
            f"{cure}, or leave it out"
        )
    return fitting


def _from_anywhere(source: Source) -> Source:
    """The same source with absolute paths, for a process with another working directory."""
    log, mapping = (path and path.absolute() for path in (source.log, source.mapping))
    return replace(source, log=log, mapping=mapping)


PACE = 8.0
"""Requests per second at which a live half is played for the live features' half-lives."""
JOIN_S = 1_800.0
"""Original seconds until a request's labels are decided."""
HORIZON_S = 21_600.0
"""Original seconds for which a late click is put right: six hours."""
