"""A simulated group with drift: the records of a processor, encoded and read back as from the topics."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from model.drift.verdict import VerdictKind
from streaming.events.announcements import ANNOUNCED
from streaming.events.decisions import Decision, decode_decision, encode_decision
from streaming.events.status import ArmStatus, DomainStatus, GroupStatus, decode_status, encode_status
from streaming.scorer.page.history import ALARM, VERDICT, StatusHistory

STRATA = ("group", "scene=home", "scene=search", "region=north", "region=south", "period=day", "period=night")
EVERY_S = 5.0
LENGTH = 240
"""Looks: twenty minutes."""
BEGINS, NAMED, RECOVERS = 100, 112, 150
"""Looks at which drift begins, is named, and is handled."""
DRIFTS = ("scene=home", "group")

_WORDS: Mapping[VerdictKind, tuple[str, str]] = {
    VerdictKind.STABLE: ("What users click is as it was.", "Nothing to do."),
    VerdictKind.HANDLED: (
        "Interest has moved, and the kernel follows: the live arm stays near its old level.",
        "Nothing now; pretrain again when the frozen arm stays low for days.",
    ),
    VerdictKind.UNHANDLED: (
        "Interest has moved, and the live arm falls with the frozen one.",
        "Look whether learning goes on; wait some thousand examples, then pretrain again.",
    ),
    VerdictKind.BROKEN_BY_US: ("The live arm does worse than the frozen one it adapts.", "Roll back or freeze."),
    VerdictKind.LABELS: ("Labels do not come as they should.", "Look at the senders of feedback."),
    VerdictKind.INPUTS: ("What the model is given is not what it was trained on.", "Look at the features."),
    VerdictKind.TOO_LITTLE: ("Three clicks in an hour say nothing.", "Wait."),
}


def domain(
    stratum: str, kind: VerdictKind, since: float, loss: float, gain: float, *, words: str = "", advice: str = ""
) -> DomainStatus:
    """One stratum with both arms; words and advice of its verdict, unless others are given."""
    arms = {
        "frozen": ArmStatus(loss, 0.72 - loss / 10, 0.72 - loss / 8, 1.03),
        "live": ArmStatus(loss - gain, 0.74 - loss / 10, 0.74 - (loss - gain) / 8, 1.0),
    }
    evidence: dict[str, float | str | None] = {"gap": gain, "adwin": "log loss 0.021 up", "label_delay_s": None}
    return DomainStatus(
        stratum,
        4_096,
        kind,
        since,
        words or _WORDS[kind][0],
        advice or _WORDS[kind][1],
        label_rate=0.31,
        arms=arms,
        expected_log_loss=loss - gain + 0.012,
        expected_auc=0.66,
        evidence={} if kind is VerdictKind.TOO_LITTLE else evidence,
    )


def _look(index: int, time: float, start: float, noise: random.Random) -> GroupStatus:
    domains = []
    for stratum in STRATA:
        drifts = stratum in DRIFTS
        rise = (0.09 if stratum == "scene=home" else 0.035) * (1 - math.exp(-max(index - BEGINS, 0) / 8)) * drifts
        follow = 0.8 * rise * (1 - math.exp(-max(index - BEGINS - 14, 0) / 12))
        kind, since = VerdictKind.STABLE, start
        if drifts and index >= RECOVERS:
            kind, since = VerdictKind.HANDLED, start + RECOVERS * EVERY_S
        elif drifts and index >= NAMED:
            kind, since = VerdictKind.UNHANDLED, start + NAMED * EVERY_S
        elif stratum == "period=night":
            kind = VerdictKind.TOO_LITTLE
        loss = 0.60 + rise + noise.gauss(0, 0.003)
        gain = 0.028 * min(index / 30, 1) + follow + noise.gauss(0, 0.002)
        domains.append(domain(stratum, kind, since, loss, gain))
    return GroupStatus(
        "main", time, time + 0.4, 64 * index, 1 + index // 2, newest_event_time=time - 0.3, domains=domains
    )


def changes(start: float) -> list[Decision]:
    """What was decided in the course of it."""
    statuses = [
        Decision(ANNOUNCED, "", start + BEGINS * EVERY_S, "announcement", {
            "name": "home_taste", "kind": "covariate", "phase": "begins", "domain": {"scene": ["home"]},
        }),
        Decision(ALARM, "main", start + (NAMED - 3) * EVERY_S, "monitor", {
            "stratum": "scene=home", "detector": "adwin", "signal": "log_loss", "value": 0.31, "threshold": 0.2,
        }),
        Decision("held", "main", start + 0.5 * LENGTH * EVERY_S, "gate", {"reason": "the candidate does harm"}),
        Decision("resumed", "main", start + 0.55 * LENGTH * EVERY_S, "gate", {"reason": "probation is over"}),
    ]  # fmt: skip
    for stratum in DRIFTS:
        for at, was, to in (
            (NAMED, VerdictKind.STABLE, VerdictKind.UNHANDLED),
            (RECOVERS, VerdictKind.UNHANDLED, VerdictKind.HANDLED),
        ):
            time = start + at * EVERY_S
            words, advice = _WORDS[to]
            detail = {"stratum": stratum, "from": was, "to": to, "since": time, "words": words, "advice": advice}
            statuses.append(Decision(VERDICT, "main", time, "monitor", detail))
    return sorted(statuses, key=lambda decision: decision.time)


def tell(history: StatusHistory, now: float, *, looks: int = LENGTH) -> None:
    """Feeds the story up to its look `looks`, which is of `now`, seconds since the epoch."""
    start, noise = now - looks * EVERY_S, random.Random(0)
    statuses = [_look(index, start + index * EVERY_S, start, noise) for index in range(looks)]
    for look in statuses:
        history.take(decode_status(encode_status(look)))
    history.add_decisions(decode_decision(encode_decision(change)) for change in changes(start) if change.time <= now)
