"""The bases that the lab compares a kernel on: the one that is shipped, and one that leaves more to gain."""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.config import BackboneConfig, PretrainConfig
from model.near_names import did_you_mean


@dataclass(frozen=True)
class Base:
    """Settings of a frozen backbone, besides the stream and the seed."""

    about: str
    backbone: BackboneConfig
    pretrain: PretrainConfig


def shipped_base() -> Base:
    """The default configuration."""
    return Base("the shipped base, frozen", BackboneConfig(), PretrainConfig())


def plain_base() -> Base:
    """The network as before decision 0066: no target statistics, wide tables, no refit, the lab's learning rates."""
    return Base(
        "the base before decision 66, frozen",
        BackboneConfig(target_statistics=False, id_width=32),
        PretrainConfig(refit=False, epochs=10, batch_size=1_024, learning_rate=4e-3, patience=2, content_steps=200),
    )


BASES = {"shipped": shipped_base, "plain": plain_base}
"""Bases by name, from which a plan chooses."""


class UnknownBaseError(ValueError):
    """Unknown name of a base, or the configuration has a factory; the message lists the known names."""


def known_base(name: str, configured: BackboneConfig) -> Base:
    """The base of a name, in place of the `configured` one, for the tasks of that. Raises UnknownBaseError."""
    if name not in BASES:
        raise UnknownBaseError(f"no base {name!r}; there are {', '.join(BASES)}{did_you_mean(name, BASES)}")
    if configured.factory:
        raise UnknownBaseError(
            f"--base {name} takes a foundation model, but backbone.factory names {configured.factory}: leave out one"
        )
    base = BASES[name]()
    return replace(base, backbone=base.backbone.changed(tasks=configured.tasks))
