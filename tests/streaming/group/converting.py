"""A small group that learns conversions beside clicks, and streams of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import torch

from features.config import LiveConfig
from features.live.features import LiveFeatures
from model.config import NO_HISTORY
from model.control_users import NO_CONTROL, ControlUsers
from model.gate.config import GateConfig
from model.kernel.learner import Learner
from streaming.config import JoinConfig
from streaming.events import ConvertingImpression, Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.group.conversion_head import ConversionHead
from streaming.group.machine import GroupMachine
from streaming.group.parts import assemble
from streaming.group.traffic_reader import Widths
from tests.streaming.group.tiny import (
    BACKBONE,
    GATE,
    LAYOUT,
    LEARNER,
    LIVE,
    SPACE,
    START,
    WIDTH,
    served,
    spec,
)
from tests.streaming.small_start import start_of

OF_CONVERSIONS = start_of(LAYOUT, WIDTH, seed=5)
BOTH = replace(START, conversion=OF_CONVERSIONS)
"""What the kernels of both tasks start from."""
WINDOW = 20.0
JOIN = JoinConfig(window_s=3, lateness_s=0.5, horizon_s=10, conversion_window_s=WINDOW, progress_timeout_s=20)


def head(gate: GateConfig = GATE, live: LiveConfig = LIVE) -> ConversionHead:
    """A conversion task that has learned nothing."""
    taught = Learner(OF_CONVERSIONS, LEARNER, fingerprint=BACKBONE.fingerprint, domain_sizes=SPACE.sizes)
    return ConversionHead(taught, LiveFeatures(replace(LAYOUT, history=NO_HISTORY), live), SPACE, gate)


def both_tasks(
    log: Sequence[bytes | None] = (),
    *,
    join: JoinConfig = JOIN,
    gate: GateConfig = GATE,
    of_conversions: GateConfig = GATE,
    live: LiveConfig = LIVE,
    control: ControlUsers = NO_CONTROL,
) -> GroupMachine:
    """A group of a backbone with conversions; `log` are the records that it reads again."""
    both = replace(
        spec(join=join, gate=gate, control=control, log=log),
        widths=replace(Widths.of(BACKBONE, LAYOUT), conversions=True),
        learner=Learner(BOTH, LEARNER, fingerprint=BACKBONE.fingerprint, domain_sizes=SPACE.sizes),
        conversions=head(of_conversions, live),
    )
    return GroupMachine(assemble(both))


def converting(shown: ServedImpression, random: np.random.Generator) -> ConvertingImpression:
    """The impression with what the conversion task is learned from: its rows and logits are drawn."""
    n = len(shown.items)
    live = random.normal(size=(n, LAYOUT.width)).astype("<f4").tobytes()
    logit = (random.normal(size=n) - 1.0).astype("<f4").tobytes()
    return ConvertingImpression(
        **msgspec.structs.asdict(shown), cvr_live=live, cvr_frozen_logit=logit, cvr_live_logit=logit
    )


def shop(requests: int, seed: int = 0, *, late: float = 0.3) -> list[Traffic]:
    """Requests of which about half the items are clicked; items with an even number convert more often than others.

    A `late` share of clicks comes behind the labels; conversions come up to nearly the end of their window.
    """
    random = np.random.default_rng(seed)
    records: list[tuple[float, int, Traffic]] = []
    time = 1_000.0
    for number in range(requests):
        time += float(random.exponential(0.4))
        request = f"main.r{number}"
        items = [f"i{item}" for item in random.choice(30, size=int(random.integers(1, 7)), replace=False)]
        records.append((time, 0, converting(served(request, time, items, random), random)))
        for item in items:
            if random.random() < 0.5:
                at = time + (float(random.uniform(4, 8)) if random.random() < late else 0.3)
                records.append((at, 1, ServedFeedback(request, item, at)))
                if random.random() < (0.6 if int(item[1:]) % 2 == 0 else 0.1):
                    at = time + float(random.uniform(0.5, WINDOW - 1))
                    records.append((at, 1, ServedFeedback(request, item, at, "conversion")))
    end = time + 3 * WINDOW
    ticks = np.arange(1_000.0, end, 0.7).tolist()
    records += [(at, 2, Progress({0: at}, 1)) for at in ticks] + [(at, 3, Tick(at)) for at in ticks]
    return [record for _, _, record in sorted(records, key=lambda one: one[:2])]


def without_conversions(records: Sequence[Traffic]) -> list[Traffic]:
    """The same stream as a backbone of clicks alone has it."""
    plain: list[Traffic] = []
    for record in records:
        if isinstance(record, ConvertingImpression):
            plain.append(ServedImpression(*msgspec.structs.astuple(record)[: len(ServedImpression.__struct_fields__)]))
        elif not isinstance(record, ServedFeedback) or record.kind == "click":
            plain.append(record)
    return plain


torch.set_num_threads(1)
