"""The options of a comparison on the command line, and the plan made of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab.evaluate.plan import Plan, make_plan
from lab.streams.sources import NamedStreams, Source
from model.config import BackboneConfig, PretrainConfig
from streaming.config import Config

TUNING_SEEDS = (1_000, 1_001)
"""Choices are made on these seeds; reported results are measured on others."""


@dataclass(frozen=True)
class ComparisonOptions:
    """Options that every comparison of `driftline evaluate` accepts."""

    out: Path
    """Folder of the report."""
    streams: NamedStreams = field(default_factory=NamedStreams)
    seeds: int | None = None
    """Number of seeds; None takes the comparison's own default."""
    quick: bool = False
    tune: bool = False
    """Whether a choice is made, on `TUNING_SEEDS`."""
    processes: int = field(default_factory=lambda: os.cpu_count() or 1)

    def seeds_or(self, count: int, *, quick: int | None = None) -> tuple[int, ...]:
        """The seeds: as many as requested, else `count`, or `quick` for a short look."""
        if self.tune:
            return TUNING_SEEDS
        return tuple(range(self.seeds or (quick if quick and self.quick else count)))

    def plan(
        self,
        config: Config,
        sources: list[Source],
        adapters: tuple[str, ...] | None,
        seeds: tuple[int, ...] = (0,),
        *,
        backbone: BackboneConfig | None = None,
        pretrain: PretrainConfig | None = None,
    ) -> Plan:
        """The plan under the user's configuration, `backbone` and `pretrain` in place of its own where they are given.

        Raises as `make_plan`.
        """
        made = make_plan(
            sources, adapters, 1, self.out, config.cache_dir, quick=self.quick, kernel=config.kernel,
            learner=config.learner, live=config.live, backbone=backbone or config.backbone, pretrain=pretrain,
        )  # fmt: skip
        return replace(made, seeds=seeds)
