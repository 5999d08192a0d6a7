"""Puts the machine of a group together from the configuration and the backbone."""

from __future__ import annotations

from dataclasses import replace

from features.live.features import LiveFeatures
from features.live.first_rows import read_first_rows
from features.live.layout import LiveRow
from model.config import NO_HISTORY
from model.kernel.learner import Learner
from streaming.backbone import OpenedBackbone
from streaming.config import Config
from streaming.group.conversion_head import ConversionHead
from streaming.group.corrections import LoggedTraffic
from streaming.group.machine import GroupMachine
from streaming.group.parts import GroupSpec, assemble
from streaming.group.traffic_reader import Widths


def first_rows(config: Config, opened: OpenedBackbone, group: str) -> list[LiveRow]:
    """The live rows that a group got from the pretraining log. Raises FirstRowsRefused."""
    return read_first_rows(config.backbone_dir, group, config.domains_of(group), opened.layout)


def new_machine(config: Config, opened: OpenedBackbone, group: str, traffic: LoggedTraffic) -> GroupMachine:
    """A machine without any record yet; `traffic` is its log. Raises FirstRowsRefused."""
    fingerprint, layout, space = opened.backbone.fingerprint, opened.layout, config.domain_space()
    spec = GroupSpec(
        group=group,
        fingerprint=fingerprint,
        widths=Widths.of(opened.backbone, layout),
        space=space,
        learner=Learner(opened.start, config.learner, fingerprint=fingerprint, domain_sizes=space.sizes),
        live=LiveFeatures(layout, config.live),
        first_rows=first_rows(config, opened, group),
        join=config.join,
        config=config.learner,
        gate=config.gate,
        control=config.scorer.control_users,
        traffic=traffic,
        drift=config.drift,
        reference=opened.reference,
        conversions=_conversion_head(config, opened),
    )
    return GroupMachine(assemble(spec))


def _conversion_head(config: Config, opened: OpenedBackbone) -> ConversionHead | None:
    start, space = opened.start.conversion, config.domain_space()
    if start is None:
        return None
    learner = Learner(start, config.learner, fingerprint=opened.backbone.fingerprint, domain_sizes=space.sizes)
    live = LiveFeatures(replace(opened.layout, history=NO_HISTORY), config.live)
    return ConversionHead(learner, live, space, config.gate)
