"""The bases that the lab compares a kernel on: the one that is shipped, and one that a kernel gains more on."""

from __future__ import annotations

from dataclasses import dataclass

from model.config import BackboneConfig, PretrainConfig


@dataclass(frozen=True)
class Base:
    """What decides a frozen backbone, beside the stream and the seed."""

    backbone: BackboneConfig
    pretrain: PretrainConfig


def shipped_base() -> Base:
    """The default configuration, with half of the steps for the content vectors."""
    return Base(BackboneConfig(), PretrainConfig(content_steps=200))


def plain_base() -> Base:
    """The network without target statistics, with wide tables and without refit, as it was before decision 0066."""
    return Base(
        BackboneConfig(target_statistics=False, id_width=32),
        PretrainConfig(refit=False, epochs=10, batch_size=1_024, learning_rate=4e-3, patience=2, content_steps=200),
    )


BASES = {"shipped": shipped_base, "plain": plain_base}
"""By name, for a plan that chooses."""
